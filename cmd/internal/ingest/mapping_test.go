package ingest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

func template(t *testing.T, s string) *Template {
	t.Helper()
	tm, err := ParseTemplate(s)
	if err != nil {
		t.Fatal(err)
	}
	return tm
}

func show(writes []Write) string {
	var out []string
	for _, w := range writes {
		switch w.Kind {
		case KindPut:
			out = append(out, fmt.Sprintf("put %s=%s", w.Key, w.Value))
		case KindCounterAdd:
			out = append(out, fmt.Sprintf("add %s%+d", w.Key, w.Delta))
		case KindCounterSet:
			out = append(out, fmt.Sprintf("set %s=%d", w.Key, w.Delta))
		case KindSetAdd:
			out = append(out, fmt.Sprintf("sadd %s=%s", w.Key, bytes.Join(w.Elements, []byte("|"))))
		}
	}
	return strings.Join(out, "; ")
}

func TestTemplate(t *testing.T) {
	const record = `{"name":"Sant Julià","n":1.50,"ok":true,"geo":{"lat":"1"},"none":null,"list":[1],"e":""}`
	var f fields
	if err := json.Unmarshal([]byte(record), &f); err != nil {
		t.Fatal(err)
	}
	for source, want := range map[string]string{
		"plain": "plain", "": "", "{name}": "Sant Julià", "a/{n}/{ok}": "a/1.50/true", "{geo.lat}!": "1!",
		"{{{name}}}": "{Sant Julià}", "{#}": "7", "x{e}y": "xy",
	} {
		got, err := template(t, source).render(f, 7)
		if err != nil || got != want {
			t.Errorf("%q gives %q, %v; want %q", source, got, err, want)
		}
	}
	for source, want := range map[string]string{
		"{absent}": "no field absent", "{none}": "has no text", "{list}": "has no text", "{geo}": "has no text",
		"{geo.lon}": "no field lon", "{name.x}": "not an object",
	} {
		if _, err := template(t, source).render(f, 0); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", source, err, want)
		}
	}
	for _, source := range []string{"{", "}", "a{b", "a}b", "{}", "{#}{#}"} {
		if _, err := ParseTemplate(source); err == nil {
			t.Errorf("%q passed", source)
		}
	}
}

func TestParseCollect(t *testing.T) {
	c, err := ParseCollect("names/{a=b}/x={name}=")
	if err != nil || c.Key.String() != "names/{a=b}/x" || c.Element.String() != "{name}=" {
		t.Errorf("got %v, %v", c, err)
	}
	for _, bad := range []string{"", "names", "n/{#}={x}", "n={#}", "n={", "{=x"} {
		if _, err := ParseCollect(bad); err == nil {
			t.Errorf("%q passed", bad)
		}
	}
}

func TestMapping(t *testing.T) {
	names, err := ParseCollect("names/{c}={n}")
	if err != nil {
		t.Fatal(err)
	}
	m := NewMapper(Mapping{
		Key: template(t, "city/{c}/{n}/{#}"), Count: []*Template{template(t, "cities/{c}")}, Collect: []Collect{names},
	})
	for _, c := range []struct{ record, want string }{
		{`{ "c": "AD", "n": "Vila" }`, `add cities/AD+1; sadd names/AD=Vila; put city/AD/Vila/0={"c":"AD","n":"Vila"}`},
		{`{"c":"AD","n":"Vila"}`, `add cities/AD+1; sadd names/AD=Vila; put city/AD/Vila/1={"c":"AD","n":"Vila"}`},
		{`{"c":"FR","n":"Vila"}`, `add cities/FR+1; sadd names/FR=Vila; put city/FR/Vila/0={"c":"FR","n":"Vila"}`},
		{`{"c":"AD","n":""}`, "!an element"},
		{`{"c":"AD"}`, "!no field n"},
		{`{"c":"AD","n":"` + strings.Repeat("x", 1020) + `"}`, "!the key has"},
		{`{"c":"AD","n":"Vila"}`, `add cities/AD+1; sadd names/AD=Vila; put city/AD/Vila/2={"c":"AD","n":"Vila"}`},
	} {
		writes, err := m.Map(Record{JSON: []byte(c.record)})
		got := show(writes)
		if err != nil {
			got = "!" + err.Error()
		}
		if !strings.HasPrefix(got, c.want) {
			t.Errorf("%.40s: got %.120s, want %s", c.record, got, c.want)
		}
	}
}

func TestMappingOfOneField(t *testing.T) {
	for field, want := range map[string]string{"s": "text", "n": "1.50", "o": `{"a":1}`, "o.a": "1", "null": "null"} {
		m := NewMapper(Mapping{Key: template(t, "k"), Value: field})
		writes, err := m.Map(Record{JSON: []byte(`{"s":"text","n":1.50,"o":{"a": 1},"null":null}`)})
		if err != nil || show(writes) != "put k="+want {
			t.Errorf("%s: %s, %v", field, show(writes), err)
		}
	}
	m := NewMapper(Mapping{Key: template(t, "k"), Value: "s"})
	if _, err := m.Map(Record{JSON: []byte(`{"s":"` + strings.Repeat("x", maxValueBytes+1) + `"}`)}); err == nil {
		t.Error("a value over the limit passed")
	}
}

func TestEntriesComeBack(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	m := NewRestorer(func() time.Time { return now.Add(time.Minute) })
	for _, c := range []struct {
		entry Entry
		want  Write
	}{
		{NewRegister("a", []byte("é<"), 0, now), Write{Kind: KindPut, Key: "a", Value: []byte("é<")}},
		{NewRegister("a", nil, 0, now), Write{Kind: KindPut, Key: "a", Value: []byte("")}},
		{NewRegister("a", []byte{0xff, 0}, 0, now), Write{Kind: KindPut, Key: "a", Value: []byte{0xff, 0}}},
		{NewRegister("a", []byte("x"), time.Hour, now), Write{Kind: KindPut, Key: "a", Value: []byte("x"), TTL: 59 * time.Minute}},
		{NewCounter("c", -1<<63), Write{Kind: KindCounterSet, Key: "c", Delta: -1 << 63}},
		{NewCounter("c", 0), Write{Kind: KindCounterSet, Key: "c"}},
		{NewSet("s", [][]byte{[]byte("x"), {0xfe}}), Write{Kind: KindSetAdd, Key: "s", Elements: [][]byte{{0xfe}, []byte("x")}}},
	} {
		line, err := json.Marshal(c.entry)
		if err != nil {
			t.Fatal(err)
		}
		got, err := m.Map(Record{JSON: line})
		if err != nil || len(got) != 1 || show(got) != show([]Write{c.want}) || got[0].TTL != c.want.TTL {
			t.Errorf("%s: %+v, %v", line, got, err)
		}
	}
	expired, err := json.Marshal(NewRegister("a", []byte("x"), time.Second, now))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := m.Map(Record{JSON: expired}); err != nil || len(got) != 0 {
		t.Errorf("an expired register: %v, %v", got, err)
	}
	for _, bad := range []string{
		`{"key":"a"}`, `{"key":"a","type":"map","value":"x"}`, `{"key":"a","type":"register"}`, `{"key":"a","type":"counter","value":"x"}`,
		`{"key":"","type":"counter","counter":1}`, `{"key":"a","type":"counter","counter":"1"}`, `{"key":"a","type":"counter","counter":1,"size":2}`,
		`{"key":"a","type":"set"}`, `{"key":"a","type":"set","members":[""]}`, `{"name":"Vila"}`, `{"key":"c","type":"counter","counter":1,"expires":"2030-01-01T00:00:00Z"}`,
	} {
		if got, err := m.Map(Record{JSON: []byte(bad)}); err == nil {
			t.Errorf("%s passed as %v", bad, got)
		}
	}
}
