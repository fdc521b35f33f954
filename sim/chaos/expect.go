package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
)

// What `atoll import` is told to make of a city.
const (
	cityKey     = "city/{country}/{name}/{#}"
	countKey    = "cities/{country}"
	collectKey  = "names/{country}={name}"
	cityPrefix  = "city/"
	cityCounter = "cities/"
	cityNames   = "names/"
)

// expectation is what every region must hold.
type expectation struct {
	// registers has the values that a key may have; most have one.
	registers map[string][]string
	counters  map[string]bounds
	sets      map[string]members
}

// bounds are those of a counter; they are equal unless the outcome of a write is unknown.
type bounds struct{ least, most int64 }

// members has true for elements that must be in a set, and false for those that may be.
type members map[string]bool

func (m members) with(must, may []string) members {
	if m == nil {
		m = members{}
	}
	for _, e := range must {
		m[e] = true
	}
	for _, e := range may {
		if !m[e] {
			m[e] = false
		}
	}
	return m
}

func newExpectation() *expectation {
	return &expectation{registers: map[string][]string{}, counters: map[string]bounds{}, sets: map[string]members{}}
}

// loadCities reads the first so many records of the dataset; 0 means all.
func loadCities(file string, most int) ([]json.RawMessage, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%w: fetch it with make cities", err)
	}
	var records []json.RawMessage
	if err := json.Unmarshal(text, &records); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if most > 0 && most < len(records) {
		records = records[:most]
	}
	return records, nil
}

// expectCities works out what an import of the records leaves behind.
func expectCities(records []json.RawMessage) (*expectation, error) {
	e := newExpectation()
	for i, record := range records {
		var city struct{ Country, Name string }
		if err := json.Unmarshal(record, &city); err != nil {
			return nil, fmt.Errorf("record %d: %w", i+1, err)
		}
		var value bytes.Buffer
		if err := json.Compact(&value, record); err != nil {
			return nil, fmt.Errorf("record %d: %w", i+1, err)
		}
		key := ""
		for n := 0; key == "" || e.registers[key] != nil; n++ {
			key = fmt.Sprintf("%s%s/%s/%d", cityPrefix, city.Country, city.Name, n)
		}
		e.registers[key] = []string{value.String()}
		counter, set := cityCounter+city.Country, cityNames+city.Country
		c := e.counters[counter]
		e.counters[counter] = bounds{c.least + 1, c.most + 1}
		e.sets[set] = e.sets[set].with([]string{city.Name}, nil)
	}
	return e, nil
}
