package ingest

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// read returns every record as LINE:JSON, and every bad one as LINES!ERROR.
func read(t *testing.T, name string, format Format, input io.Reader) []string {
	t.Helper()
	r, err := NewReader(input, name, format)
	if err != nil {
		return []string{"open!" + err.Error()}
	}
	var out []string
	for {
		rec, err := r.Next()
		var bad *BadRecord
		switch {
		case errors.Is(err, io.EOF):
			return out
		case errors.As(err, &bad):
			out = append(out, fmt.Sprintf("%d-%d!%v", bad.Line, bad.EndLine, bad.Err))
		case err != nil:
			return append(out, "fatal!"+err.Error())
		default:
			out = append(out, fmt.Sprintf("%d:%s", rec.Line, rec.JSON))
		}
		if len(out) > 1000 {
			t.Fatal("the reader does not end")
		}
	}
}

type readerCase struct {
	name, file, input string
	want              []string // compared as prefixes
}

func runReaderCases(t *testing.T, cases []readerCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			// A reader that gives a byte at a time must make no difference.
			for _, in := range []io.Reader{strings.NewReader(c.input), iotest.OneByteReader(strings.NewReader(c.input))} {
				got := read(t, c.file, "", in)
				if len(got) != len(c.want) {
					t.Fatalf("got %q\nwant %q", got, c.want)
				}
				for i := range got {
					if !strings.HasPrefix(got[i], c.want[i]) {
						t.Errorf("record %d is %q, want %q", i+1, got[i], c.want[i])
					}
				}
			}
		})
	}
}

func TestNDJSON(t *testing.T) {
	long := `{"a":"` + strings.Repeat("x", MaxRecordBytes) + `"}`
	runReaderCases(t, []readerCase{
		{"plain", "x.ndjson", "{\"a\":1}\n{\"a\":2}\n", []string{`1:{"a":1}`, `2:{"a":2}`}},
		{"no last line end", "x.jsonl", "{\"a\":1}\n{\"a\":2}", []string{`1:{"a":1}`, `2:{"a":2}`}},
		{"crlf and blank lines", "-", "{\"a\":1}\r\n\r\n  \n{\"a\":2}\r\n", []string{`1:{"a":1}`, `4:{"a":2}`}},
		{"byte order mark", "-", "\xef\xbb\xbf{\"a\":1}\n", []string{`1:{"a":1}`}},
		{"unicode", "-", "{\"name\":\"Sant Julià 東京 \\u00e9\"}\n", []string{`1:{"name":"Sant Julià 東京 \u00e9"}`}},
		{"bad lines", "-", "{\"a\":1}\n{\"a\":\n[1]\n\"x\"\n{\"a\":\"\xff\"}\n{\"a\":2}\n", []string{
			`1:{"a":1}`, "2-2!malformed JSON at byte 5", "3-3!not a JSON object", "4-4!not a JSON object", "5-5!not UTF-8", `6:{"a":2}`,
		}},
		{"long line", "-", "{\"a\":1}\n" + long + "\n{\"a\":2}\n", []string{`1:{"a":1}`, "2-2!longer than", `3:{"a":2}`}},
		{"long last line", "-", "{}\n" + long, []string{`1:{}`, "2-2!longer than"}},
		{"empty", "-", "", nil},
		{"only a byte order mark", "-", "\xef\xbb\xbf", nil},
	})
}

func TestArray(t *testing.T) {
	long := `{"a":"` + strings.Repeat("x", MaxRecordBytes) + `"}`
	lines := func(s ...string) string { return strings.Join(s, "\n") }
	runReaderCases(t, []readerCase{
		{"one line", "x.json", `[{"a":1},{"a":[2,{"b":"]}"}]} , {"a":"\"},{"}]`, []string{`1:{"a":1}`, `1:{"a":[2,{"b":"]}"}]}`, `1:{"a":"\"},{"}`}},
		{"empty array", "-", " [ ] \n", nil},
		{"empty input", "x.json", "", nil},
		{"pretty", "-", lines("[", "  {", `    "a": 1`, "  },", "  {", `    "a": 2`, "  }", "]", ""), []string{"2:{\n    \"a\": 1\n  }", "5:{\n    \"a\": 2\n  }"}},
		{"byte order mark", "-", "\xef\xbb\xbf[{}]", []string{"1:{}"}},
		{"not objects", "-", `[1, "x", null, [2], {"a":1}]`, []string{"1-1!not a JSON object", "1-1!not a JSON object", "1-1!not a JSON object", "1-1!not a JSON object", `1:{"a":1}`}},
		{"bad record", "-", `[{"a":1},{"a":},{"a":3}]`, []string{`1:{"a":1}`, "1-1!malformed JSON at byte 6", `1:{"a":3}`}},
		{"text behind a record", "-", `[{"a":1}x,{"a":2}]`, []string{"1-1!malformed JSON at byte 8", `1:{"a":2}`}},
		{"no comma", "-", `[{"a":1} {"a":2},{"a":3}]`, []string{`1:{"a":1}`, "1-1!malformed JSON: no comma", `1:{"a":3}`}},
		{"commas", "-", `[,{"a":1},,{"a":2},]`, []string{"1-1!malformed JSON: a comma", `1:{"a":1}`, "1-1!malformed JSON: a comma", `1:{"a":2}`, "1-1!malformed JSON: a comma"}},
		{"not closed", "-", `[{"a":1},{"a":2}`, []string{`1:{"a":1}`, `1:{"a":2}`, "1-1!malformed JSON: the array is not closed"}},
		{"cut off", "-", "[{\"a\":1},\n{\"a\":", []string{`1:{"a":1}`, "2-2!malformed JSON: the input ends"}},
		{"text behind", "-", "[{\"a\":1}]\n{\"a\":2}", []string{`1:{"a":1}`, "2-2!malformed JSON: text after"}},
		{"not an array", "x", "", nil},
		{"long record", "-", `[{"a":1},` + long + `,{"a":2}]`, []string{`1:{"a":1}`, "1-1!longer than", `1:{"a":2}`}},
		{"broken string", "-", lines(`[`, `{"a":"1},`, `{"a":2},`, `{"a":3}`, `]`), []string{"2-3!malformed JSON: a line break", `3:{"a":2}`, `4:{"a":3}`}},
		{"broken brackets", "-", lines(`[`, `  {"a":1},`, `  {"a":[2},`, `  {"a":3}`, `]`), []string{`2:{"a":1}`, "3-4!malformed JSON: a bracket", `4:{"a":3}`}},
		{"broken inside, nested objects are not records", "-", lines("[", " {", `  "a":[2}`, `  ,"b":[`, `  {"c":1}`, `  ]`, " },", " {", `  "a":4`, " }", "]"), []string{"2-4!malformed JSON: a bracket", "8:{\n  \"a\":4\n }"}},
		{"broken last", "-", lines(`[`, `{"a":1},`, `{"a":[2}`, `]`, ``), []string{`2:{"a":1}`, "3-4!malformed JSON: a bracket"}},
		{"broken on one line", "-", `[{"a":1},{"a":[2},{"a":3}]`, []string{`1:{"a":1}`, "1-1!malformed JSON: a bracket closes what was not opened, or too many are open; the rest of the input, 9 bytes, is left out"}},
		{"broken, then cut off", "-", lines(`[`, `{"a":[1}`, `x`), []string{"2-3!malformed JSON: a bracket", "3-3!malformed JSON: the array is not closed"}},
	})
	if got := read(t, "-", FormatArray, strings.NewReader(`{"a":1}`)); len(got) != 1 || !strings.Contains(got[0], "must begin with [") {
		t.Errorf("an object read as an array: %q", got)
	}
}

func TestCSV(t *testing.T) {
	long := strings.Repeat("x", MaxRecordBytes+1)
	runReaderCases(t, []readerCase{
		{"plain", "x.csv", "name,country\nVila,AD\nOrdino,AD\n", []string{`2:{"name":"Vila","country":"AD"}`, `3:{"name":"Ordino","country":"AD"}`}},
		{"found by its first byte", "-", "name\nVila", []string{`2:{"name":"Vila"}`}},
		{"quotes", "x.csv", "a,b\n\"x,y\",\"say \"\"hi\"\"\"\n\"\",\n", []string{`2:{"a":"x,y","b":"say \"hi\""}`, `3:{"a":"","b":""}`}},
		{"line break in a field", "x.csv", "a,b\r\n\"x\r\ny\",1\r\nz,2\r\n", []string{`2:{"a":"x\ny","b":"1"}`, `4:{"a":"z","b":"2"}`}},
		{"byte order mark and spaces in the header", "x.csv", "\xef\xbb\xbfa, b\n1,2\n", []string{`2:{"a":"1","b":"2"}`}},
		{"html is left alone", "x.csv", "a\n<b>&\n", []string{`2:{"a":"<b>&"}`}},
		{"empty lines", "x.csv", "a\n\n\n1\n", []string{`4:{"a":"1"}`}},
		{"bad rows", "x.csv", "a,b\n1\n1,2,3\n5\" pipe,x\n\"a\"b,x\n\xff,1\n1,2\n", []string{
			"2-2!1 fields, where the header has 2", "3-3!3 fields", "4-4!a quote inside a field", "5-5!text behind", "6-6!not UTF-8", `7:{"a":"1","b":"2"}`,
		}},
		{"open quote", "x.csv", "a\n1\n\"x\ny\n", []string{`2:{"a":"1"}`, "3-4!a quoted field is not closed"}},
		{"long row", "x.csv", "a\n" + long + "\n1\n", []string{"2-2!longer than", `3:{"a":"1"}`}},
		{"long quoted row", "x.csv", "a\n\"" + strings.Repeat(strings.Repeat("x", 1<<20)+"\n", 4) + "\"\n1\n", []string{"2-5!longer than", "6-7!a quoted field is not closed"}},
		{"header only", "x.csv", "a,b\n", nil},
		{"empty", "x.csv", "", nil},
		{"header twice", "x.csv", "a,a\n1,2\n", []string{"open!header of the CSV: field 2"}},
		{"header without a name", "x.csv", "a,\n1,2\n", []string{"open!header of the CSV: field 2"}},
	})
}

func TestInputErrorsAreNotTheEnd(t *testing.T) {
	broken := errors.New("disk on fire")
	for name, head := range map[string]string{"x.ndjson": "{}\n", "x.json": "[{},", "x.csv": "a\n1\n"} {
		got := read(t, name, "", io.MultiReader(strings.NewReader(head), iotest.ErrReader(broken)))
		if len(got) != 2 || !strings.HasPrefix(got[1], "fatal!") || !strings.Contains(got[1], "disk on fire") {
			t.Errorf("%s: %q", name, got)
		}
	}
	if _, err := NewReader(strings.NewReader(""), "", "xml"); err == nil {
		t.Error("an unknown format passed")
	}
}

// FuzzReaders checks that no input makes a reader panic or run on, and that offsets end at its length.
func FuzzReaders(f *testing.F) {
	for _, s := range []string{"[{\"a\":1},\n{\"a\":[2},\n{\"b\":3}]", "{\"a\":1}\n{", "a,b\n1,\"2\n3\"\n", "\xef\xbb\xbf[", "[{\"a\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, format := range []Format{FormatNDJSON, FormatArray, FormatCSV} {
			r, err := NewReader(strings.NewReader(s), "", format)
			if err != nil {
				continue
			}
			last := int64(0)
			for n := 0; ; n++ {
				rec, err := r.Next()
				var bad *BadRecord
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil && !errors.As(err, &bad) {
					t.Fatal(err)
				}
				if n > len(s)+2 {
					t.Fatal("more records than bytes")
				}
				if err == nil && (rec.Number <= last || checkObject(rec.JSON) != nil) {
					t.Fatalf("record %d after %d: %q", rec.Number, last, rec.JSON)
				}
				if err == nil {
					last = rec.Number
				}
			}
			if r.Offset() != int64(len(s)) && format != FormatArray {
				t.Fatalf("%s: offset %d of %d", format, r.Offset(), len(s))
			}
		}
	})
}
