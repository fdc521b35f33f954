package ingest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
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
		if len(w.Path) > 0 {
			w.Key += fmt.Sprint(w.Path)
		}
		switch w.Kind {
		case KindPut:
			out = append(out, fmt.Sprintf("put %s=%s", w.Key, w.Value))
		case KindCounterAdd:
			out = append(out, fmt.Sprintf("add %s%+d", w.Key, w.Delta))
		case KindCounterSet:
			out = append(out, fmt.Sprintf("set %s=%d", w.Key, w.Delta))
		case KindSetAdd:
			out = append(out, fmt.Sprintf("sadd %s=%s", w.Key, bytes.Join(w.Elements, []byte("|"))))
		case KindMapPut:
			out = append(out, fmt.Sprintf("map %s=%s", w.Key, w.Fields))
		default:
			out = append(out, fmt.Sprintf("%d %s=%s%d,%v%s", w.Kind, w.Key, w.Value, w.Delta, w.Score, bytes.Join(w.Elements, []byte("|"))))
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
