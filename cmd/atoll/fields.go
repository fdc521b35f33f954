package main

import (
	"bufio"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
)

// column is one thing that a write of a map or sorted set answers; the first one is what a pipe gets.
type column struct {
	name  string
	value any
}

type fieldsWrite func(kv *client.Client, cmd *cobra.Command, args []string, opts []client.WriteOption) ([]column, error)

// newFieldsWrite completes a command that writes to the map or sorted set named by the first argument.
func newFieldsWrite(a *app, c *cobra.Command, do fieldsWrite) *cobra.Command {
	c.ValidArgsFunction = a.completeKeys(1)
	var w writes
	w.flagsOfValue(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		var info client.Info
		kv, opts, err := a.writing(cmd, &w, &info)
		if err != nil {
			return err
		}
		columns, err := do(kv, cmd, args, opts)
		if err != nil {
			return err
		}
		if w.local() {
			return a.written(args[0], "", info)
		}
		out := map[string]any{"key": args[0], "region": info.Region, "node": info.Node, "partition": info.Partition}
		fields := []field{{"key", printable([]byte(args[0]), 200)}}
		for _, c := range columns {
			out[c.name] = c.value
			fields = append(fields, field{c.name, fmt.Sprint(c.value)})
		}
		return a.result(out, fmt.Sprintln(columns[0].value), append(fields, whereFields(info)...))
	}
	return c
}

// newFieldsRead completes a command that prints something bit by bit of the map or sorted set named by
// the first argument.
func newFieldsRead(a *app, c *cobra.Command, do func(kv *client.Client, cmd *cobra.Command, args []string, opts []client.ReadOption, print func(line fieldsLine) error) error) *cobra.Command {
	c.ValidArgsFunction = a.completeKeys(1)
	var r reads
	r.flags(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		opts, err := r.options()
		if err != nil {
			return err
		}
		kv, err := a.client(cmd.Context())
		if err != nil {
			return err
		}
		return a.stream(func(out *bufio.Writer, format string) error {
			return do(kv, cmd, args, opts, func(line fieldsLine) error { return line.write(out, format) })
		})
	}
	return c
}

// fieldsLine is one line of output: for a pipe, for a table, and as JSON.
type fieldsLine struct {
	raw   string
	shown string
	json  any
}

func (l fieldsLine) write(out *bufio.Writer, format string) error {
	var err error
	switch format {
	case "json":
		return jsonLine(out, l.json)
	case "table":
		_, err = out.WriteString(l.shown + "\n")
	default:
		_, err = out.WriteString(l.raw + "\n")
	}
	return err
}

// score is a score as JSON, which has no infinity: that is a string.
type score float64

func (s score) String() string { return strconv.FormatFloat(float64(s), 'g', -1, 64) }

// MarshalJSON implements json.Marshaler.
func (s score) MarshalJSON() ([]byte, error) {
	if math.IsInf(float64(s), 0) {
		return strconv.AppendQuote(nil, s.String()), nil
	}
	return []byte(s.String()), nil
}

func parseScore(text string) (float64, error) {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(f) {
		return 0, usagef("%q is not a score: want a number, inf or -inf", text)
	}
	return f, nil
}

// scoredItem is a member of a sorted set as JSON.
type scoredItem struct {
	Member any `json:"member"`
	Score  any `json:"score"`
}

func scoredItemOf(m client.ScoredMember) scoredItem {
	return scoredItem{textOrBase64(m.Member), score(m.Score)}
}

// fieldItem is a field of a map as JSON.
type fieldItem struct {
	Field string `json:"field"`
	Value any    `json:"value"`
}

func fieldLine(f client.MapField) fieldsLine {
	return fieldsLine{
		raw:   f.Name + "=" + string(f.Value),
		shown: printable([]byte(f.Name), -1) + "=" + printable(f.Value, -1),
		json:  fieldItem{f.Name, textOrBase64(f.Value)},
	}
}

func scoredLine(m client.ScoredMember) fieldsLine {
	return fieldsLine{
		raw:   score(m.Score).String() + "\t" + string(m.Member),
		shown: score(m.Score).String() + "\t" + printable(m.Member, -1),
		json:  scoredItemOf(m),
	}
}

// addFields fills in what an item has of a map or sorted set.
func (it *item) addFields(v client.Value) {
	it.Size = &v.Size
	for _, f := range v.Fields {
		if utf8.Valid(f.Value) {
			if it.Fields == nil {
				it.Fields = map[string]string{}
			}
			it.Fields[f.Name] = string(f.Value)
		} else {
			if it.FieldsBase64 == nil {
				it.FieldsBase64 = map[string][]byte{}
			}
			it.FieldsBase64[f.Name] = f.Value
		}
	}
	for _, m := range v.Scored {
		it.Scored = append(it.Scored, scoredItemOf(m))
	}
}

// shownFields returns a map or sorted set for a table.
func shownFields(v client.Value) string {
	var texts []string
	for _, f := range v.Fields {
		texts = append(texts, printable([]byte(f.Name), 40)+"="+printable(f.Value, 40))
	}
	for _, m := range v.Scored {
		texts = append(texts, printable(m.Member, 40)+" "+score(m.Score).String())
	}
	if len(texts) > 5 {
		texts = append(texts[:5], "…")
	}
	what := "fields"
	if v.Type == client.TypeZSet {
		what = "members"
	}
	return fmt.Sprintf("%d %s: %s", v.Size, what, strings.Join(texts, ", "))
}

// rawFields returns a map or sorted set for a pipe, line by line.
func rawFields(v client.Value) string {
	var b strings.Builder
	for _, f := range v.Fields {
		b.WriteString(fieldLine(f).raw + "\n")
	}
	for _, m := range v.Scored {
		b.WriteString(scoredLine(m).raw + "\n")
	}
	return b.String()
}

// noteMoreFields says what a get left out of a map or sorted set.
func (a *app) noteMoreFields(key string, v client.Value) {
	switch rest := v.Size - uint64(len(v.Fields)+len(v.Scored)); {
	case v.Type == client.TypeMap && rest > 0:
		a.notef("%d more fields: atoll map all %q prints all", rest, key)
	case v.Type == client.TypeZSet && rest > 0:
		a.notef("%d more members: atoll zset range %q prints all", rest, key)
	}
}
