package ingest

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
)

// filled returns the entry of a map with two fields.
func filled() Entry {
	e := NewMap("m")
	e.AddField("a", []byte("1"))
	e.AddField("b", []byte{0xff})
	return e
}

func TestEntriesComeBack(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	m := NewRestorer(func() time.Time { return now.Add(time.Minute) })
	scores := []Scored{NewScored([]byte("a"), -1.5), NewScored([]byte{0xff}, math.Inf(1)), NewScored([]byte("c"), math.Inf(-1))}
	for _, c := range []struct {
		entry Entry
		want  []Write
	}{
		{NewRegister("a", []byte("é<")), []Write{{Kind: KindPut, Key: "a", Value: []byte("é<")}}},
		{NewRegister("a", nil), []Write{{Kind: KindPut, Key: "a", Value: []byte("")}}},
		{NewRegister("a", []byte{0xff, 0}), []Write{{Kind: KindPut, Key: "a", Value: []byte{0xff, 0}}}},
		{NewRegister("a", []byte("x")).ExpiresAfter(time.Hour, now), []Write{{Kind: KindPut, Key: "a", Value: []byte("x"), TTL: 59 * time.Minute}}},
		{NewCounter("c", -1<<63), []Write{{Kind: KindCounterSet, Key: "c", Delta: -1 << 63}}},
		{NewCounter("c", 0), []Write{{Kind: KindCounterSet, Key: "c"}}},
		{NewSet("s", [][]byte{[]byte("x"), {0xfe}}), []Write{{Kind: KindSetAdd, Key: "s", Elements: [][]byte{{0xfe}, []byte("x")}}}},
		{NewSet("s", [][]byte{[]byte("x")}).ExpiresAfter(2*time.Minute, now), []Write{{Kind: KindSetAdd, Key: "s", Elements: [][]byte{[]byte("x")}, TTL: time.Minute}}},
		{NewMVRegister("v", []byte{0xff}), []Write{{Kind: KindMVPut, Key: "v", Value: []byte{0xff}}}},
		{NewBounded("b", 7), []Write{{Kind: KindBoundedInc, Key: "b", Delta: 7}}},
		{NewBounded("b", 0), nil},
		{NewMax("x", -7), []Write{{Kind: KindMax, Key: "x", Delta: -7}}},
		{NewMin("n", 1<<62), []Write{{Kind: KindMin, Key: "n", Delta: 1 << 62}}},
		{NewFlag("f"), []Write{{Kind: KindFlagEnable, Key: "f"}}},
		{filled(), []Write{{Kind: KindMapPut, Key: "m", Fields: map[string][]byte{"a": []byte("1"), "b": {0xff}}}}},
		{NewZSet("z", scores), []Write{
			{Kind: KindZSetAdd, Key: "z", Elements: [][]byte{[]byte("a")}, Score: -1.5},
			{Kind: KindZSetAdd, Key: "z", Elements: [][]byte{{0xff}}, Score: math.Inf(1)},
			{Kind: KindZSetAdd, Key: "z", Elements: [][]byte{[]byte("c")}, Score: math.Inf(-1)},
		}},
		{NewCounterZSet("y", []Scored{NewScored([]byte("a"), -1<<53)}), []Write{{Kind: KindCountedAdd, Key: "y", Elements: [][]byte{[]byte("a")}, Score: -1 << 53, Delta: -1 << 53}}},
		{NewCounter("u", 5).At([]string{"42", "visits"}), []Write{{Kind: KindCounterSet, Key: "u", Path: []string{"42", "visits"}, Delta: 5}}},
		{NewZSet("u", scores[:2]).At([]string{"é"}).ExpiresAfter(2*time.Minute, now), []Write{
			{Kind: KindZSetAdd, Key: "u", Path: []string{"é"}, Elements: [][]byte{[]byte("a")}, Score: -1.5, TTL: time.Minute},
			{Kind: KindZSetAdd, Key: "u", Path: []string{"é"}, Elements: [][]byte{{0xff}}, Score: math.Inf(1), TTL: time.Minute},
		}},
	} {
		line, err := json.Marshal(c.entry)
		if err != nil {
			t.Fatal(err)
		}
		got, err := m.Map(Record{JSON: line})
		if err != nil || len(got) != len(c.want) || show(got) != show(c.want) || len(got) > 0 && got[0].TTL != c.want[0].TTL {
			t.Errorf("%s: %+v, %v", line, got, err)
		}
	}
	expired, err := json.Marshal(NewRegister("a", []byte("x")).ExpiresAfter(time.Second, now))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := m.Map(Record{JSON: expired}); err != nil || len(got) != 0 {
		t.Errorf("an expired register: %v, %v", got, err)
	}
}

func TestEntriesRefused(t *testing.T) {
	m := NewRestorer(func() time.Time { return time.Unix(0, 0) })
	for _, bad := range []string{
		`{"key":"a"}`, `{"key":"a","type":"hash","value":"x"}`, `{"key":"a","type":"register"}`, `{"key":"a","type":"counter","value":"x"}`,
		`{"key":"a","type":"register","value":"x","value_base64":"eA=="}`,
		`{"key":"","type":"counter","counter":1}`, `{"key":"a","type":"counter","counter":"1"}`, `{"key":"a","type":"counter","counter":1,"size":2}`,
		`{"key":"a","type":"set"}`, `{"key":"a","type":"set","members":[""]}`, `{"name":"Vila"}`,
		`{"key":"b","type":"bcounter","number":1,"expires":"2030-01-01T00:00:00Z"}`, `{"key":"b","type":"bcounter","number":-1}`, `{"key":"b","type":"bcounter","counter":1}`,
		`{"key":"h","type":"hll"}`, `{"key":"l","type":"timeline"}`, `{"key":"x","type":"max"}`,
		`{"key":"m","type":"map"}`, `{"key":"m","type":"map","fields":{"":"x"}}`, `{"key":"m","type":"map","fields":{"` + strings.Repeat("x", 1025) + `":"x"}}`,
		`{"key":"z","type":"zset"}`, `{"key":"z","type":"zset","scores":[{"score":1}]}`, `{"key":"z","type":"zset","scores":[{"member":"a","member_base64":"eA==","score":1}]}`,
		`{"key":"z","type":"zset","scores":[{"member":"a","score":"NaN"}]}`, `{"key":"z","type":"zset","scores":[{"member":"a","score":null}]}`,
		`{"key":"z","type":"zset","scores":[{"member":"` + strings.Repeat("x", 1025) + `","score":1}]}`,
		`{"key":"y","type":"countzset","scores":[{"member":"a","score":1.5}]}`, `{"key":"y","type":"countzset","scores":[{"member":"a","score":1e16}]}`,
		`{"key":"y","type":"countzset","scores":[{"member":"a","score":"+Inf"}]}`,
		`{"key":"u","path":["a"],"type":"bcounter","number":1}`, `{"key":"u","path":["a"],"type":"ormap"}`, `{"key":"u","type":"ormap"}`,
		`{"key":"u","path":["a",""],"type":"flag"}`, `{"key":"u","path":["a","b","c","d","e"],"type":"flag"}`,
		`{"key":"u","path":["` + strings.Repeat("x", 256) + `"],"type":"flag"}`, `{"key":"u","path":"a","type":"flag"}`,
	} {
		if got, err := m.Map(Record{JSON: []byte(bad)}); err == nil {
			t.Errorf("%.80s passed as %v", bad, got)
		}
	}
}
