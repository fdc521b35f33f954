package main

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/atolldb/atoll/client"
)

// item is a key with its value as JSON. The fields that an export has too are named as there.
type item struct {
	Key           string            `json:"key"`
	Type          string            `json:"type,omitempty"`
	Value         *string           `json:"value,omitempty"`
	ValueBase64   []byte            `json:"value_base64,omitempty"`
	Counter       *int64            `json:"counter,omitempty"`
	Rights        []rights          `json:"rights,omitempty"`
	Size          *uint64           `json:"size,omitempty"`
	Changed       *bool             `json:"changed,omitempty"` // of an add to a HyperLogLog
	Members       []string          `json:"members,omitempty"`
	MembersBase64 [][]byte          `json:"members_base64,omitempty"`
	Enabled       *bool             `json:"enabled,omitempty"`
	Siblings      []siblingItem     `json:"siblings,omitempty"`
	Entries       []entryItem       `json:"entries,omitempty"`
	Fields        map[string]string `json:"fields,omitempty"`
	FieldsBase64  map[string][]byte `json:"fields_base64,omitempty"`
	Scored        []scoredItem      `json:"scored,omitempty"`
	Names         []string          `json:"names,omitempty"`
	TTL           string            `json:"ttl,omitempty"`
	Version       string            `json:"version,omitempty"`
	Region        string            `json:"region,omitempty"`
	Node          string            `json:"node,omitempty"`
	Partition     *uint32           `json:"partition,omitempty"`
	Consistency   string            `json:"consistency,omitempty"`  // of a read that is not linearizable
	StalenessMS   *float64          `json:"staleness_ms,omitempty"` // if it is known
}

// rights are what a region may take of a bounded counter.
type rights struct {
	Region string `json:"region"`
	Rights int64  `json:"rights"`
}

// itemOf describes a value; without its content if keysOnly.
func itemOf(key string, v client.Value, keysOnly bool) item {
	it := item{Key: key, Type: v.Type.String(), Version: v.Version}
	if v.TTL > 0 {
		it.TTL = v.TTL.Round(time.Millisecond).String()
	}
	if keysOnly {
		return it
	}
	switch v.Type {
	case client.TypeCounter, client.TypeBoundedCounter, client.TypeMax, client.TypeMin:
		it.Counter = &v.Counter
		for _, r := range v.Rights {
			it.Rights = append(it.Rights, rights(r))
		}
	case client.TypeSet, client.TypeHLL:
		it.Size = &v.Size
		for _, m := range v.Members {
			if utf8.Valid(m) {
				it.Members = append(it.Members, string(m))
			} else {
				it.MembersBase64 = append(it.MembersBase64, m)
			}
		}
	case client.TypeFlag:
		it.Enabled = &v.Enabled
	case client.TypeTimeline:
		it.Size = &v.Size
		for _, e := range v.Entries {
			it.Entries = append(it.Entries, entryItemOf(e))
		}
	case client.TypeMap, client.TypeZSet:
		it.addFields(v)
	case client.TypeORMap:
		it.addNames(v)
	case client.TypeCounterZSet:
		it.addCounted(v)
	default:
		it.Siblings = siblingItems(v.Siblings)
		if utf8.Valid(v.Bytes) {
			text := string(v.Bytes)
			it.Value = &text
		} else {
			it.ValueBase64 = v.Bytes
		}
	}
	return it
}

func (it item) answeredBy(info client.Info) item {
	it.Region, it.Node, it.Partition = info.Region, info.Node, &info.Partition
	if info.Served != client.ConsistencyLinearizable {
		it.Consistency = info.Served.String()
		it.StalenessMS = millisIf(info.StalenessKnown, info.Staleness)
	}
	return it
}

// shown returns a value for a table.
func shown(v client.Value, width int) string {
	switch v.Type {
	case client.TypeCounter, client.TypeMax, client.TypeMin:
		return strconv.FormatInt(v.Counter, 10)
	case client.TypeBoundedCounter:
		return shownRights(v)
	case client.TypeSet:
		var members []string
		for i, m := range v.Members {
			if i == 5 {
				members = append(members, "…")
				break
			}
			members = append(members, printable(m, 40))
		}
		return fmt.Sprintf("%d members: %s", v.Size, strings.Join(members, ", "))
	case client.TypeHLL:
		return fmt.Sprintf("about %d", v.Size)
	case client.TypeFlag:
		return "enabled" // one that is not does not exist
	case client.TypeMVRegister:
		return shownSiblings(v, width)
	case client.TypeTimeline:
		return shownTimeline(v)
	case client.TypeMap, client.TypeZSet:
		return shownFields(v)
	case client.TypeCounterZSet:
		return shownCounted(v)
	case client.TypeORMap:
		return shownNames(v)
	default:
		return printable(v.Bytes, width)
	}
}

// shownRights returns "7 (eu may take 2, us 5)".
func shownRights(v client.Value) string {
	text := strconv.FormatInt(v.Counter, 10)
	for i, r := range v.Rights {
		between := ", %s %d"
		if i == 0 {
			between = " (%s may take %d"
		}
		text += fmt.Sprintf(between, r.Region, r.Rights)
	}
	if len(v.Rights) > 0 {
		text += ")"
	}
	return text
}

// rawValue returns a value for a pipe: a register's bytes and nothing else, of a multi-value register
// the latest, a number of any type, the estimate of a HyperLogLog, line by line a set's members, a
// timeline's newest entries, a map's fields, and a sorted set's scores and members, true for a flag,
// of an observed-remove map the outermost names.
func rawValue(v client.Value) string {
	switch v.Type {
	case client.TypeCounter, client.TypeBoundedCounter, client.TypeMax, client.TypeMin:
		return strconv.FormatInt(v.Counter, 10) + "\n"
	case client.TypeSet:
		return string(bytes.Join(append(v.Members[:len(v.Members):len(v.Members)], nil), []byte("\n")))
	case client.TypeHLL:
		return strconv.FormatUint(v.Size, 10) + "\n"
	case client.TypeFlag:
		return fmt.Sprintln(v.Enabled)
	case client.TypeTimeline:
		return rawTimeline(v.Entries)
	case client.TypeMap, client.TypeZSet:
		return rawFields(v)
	case client.TypeORMap:
		return rawNames(v)
	case client.TypeCounterZSet:
		var lines strings.Builder
		for _, m := range v.Counted {
			fmt.Fprintf(&lines, "%d\t%s\n", m.Score, m.Member)
		}
		return lines.String()
	default:
		return string(v.Bytes)
	}
}

func whereFields(info client.Info) []field {
	fields := []field{{"region", info.Region}, {"node", info.Node}, {"partition", strconv.Itoa(int(info.Partition))}}
	if info.Served == client.ConsistencyLinearizable {
		return fields
	}
	age := "unknown"
	if info.StalenessKnown {
		age = "at most " + info.Staleness.String()
	}
	return append(fields, field{"consistency", info.Served.String()}, field{"age", age})
}
