package main

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/atolldb/atoll/client"
)

// leafCall is one write of a value in a map.
type leafCall struct {
	app  *app
	at   *client.ORMapPath
	args []string
	opts []client.WriteOption
}

// leafWrite is one operation on the values of one type.
type leafWrite struct {
	typ, op string
	// takes says what arguments there are; those of least and most are checked.
	takes       string
	least, most int
	do          func(ctx context.Context, c *leafCall) ([]column, error)
}

// leafWrites are all operations on values in maps.
func leafWrites() []leafWrite {
	return []leafWrite{
		{"register", "put", "VALUE", 1, 1, func(ctx context.Context, c *leafCall) ([]column, error) { return c.value(ctx, c.at.Register().Put) }},
		{"counter", "add", "N", 1, 1, func(ctx context.Context, c *leafCall) ([]column, error) { return c.number(ctx, c.at.Counter().Add) }},
		{"counter", "set", "N", 1, 1, func(ctx context.Context, c *leafCall) ([]column, error) { return c.number(ctx, c.at.Counter().Set) }},
		{"counter", "reset", "", 0, 0, func(ctx context.Context, c *leafCall) ([]column, error) {
			return doneOf(c.at.Counter().Reset(ctx, c.opts...))
		}},
		{"set", "add", "MEMBER...", 1, -1, func(ctx context.Context, c *leafCall) ([]column, error) { return c.members(ctx, c.at.Set().Add) }},
		{"set", "rem", "MEMBER...", 1, -1, func(ctx context.Context, c *leafCall) ([]column, error) { return c.members(ctx, c.at.Set().Remove) }},
		{"set", "clear", "", 0, 0, func(ctx context.Context, c *leafCall) ([]column, error) {
			return changeOf(c.at.Set().Clear(ctx, c.opts...))
		}},
		{"flag", "enable", "", 0, 0, func(ctx context.Context, c *leafCall) ([]column, error) {
			return versionOf(c.at.Flag().Enable(ctx, c.opts...))
		}},
		{"flag", "disable", "", 0, 0, func(ctx context.Context, c *leafCall) ([]column, error) {
			return doneOf(c.at.Flag().Disable(ctx, c.opts...))
		}},
		{"mvregister", "put", "VALUE", 1, 1, func(ctx context.Context, c *leafCall) ([]column, error) { return c.value(ctx, c.at.MVRegister().Put) }},
		{"max", "raise", "N", 1, 1, func(ctx context.Context, c *leafCall) ([]column, error) { return c.number(ctx, c.at.Max().Raise) }},
		{"min", "lower", "N", 1, 1, func(ctx context.Context, c *leafCall) ([]column, error) { return c.number(ctx, c.at.Min().Lower) }},
		{"map", "put", "FIELD VALUE", 2, 2, leafMapPut},
		{"map", "rem", "FIELD...", 1, -1, leafMapRemove},
		{"zset", "add", "MEMBER SCORE", 2, 2, func(ctx context.Context, c *leafCall) ([]column, error) { return c.scored(ctx, c.at.ZSet().Add) }},
		{"zset", "incr", "MEMBER DELTA", 2, 2, func(ctx context.Context, c *leafCall) ([]column, error) { return c.scored(ctx, c.at.ZSet().Incr) }},
		{"zset", "rem", "MEMBER...", 1, -1, leafZSetRemove},
		{"countzset", "add", "MEMBER SCORE", 2, 2, func(ctx context.Context, c *leafCall) ([]column, error) {
			return c.counted(ctx, c.at.CounterZSet().Add)
		}},
		{"countzset", "incr", "MEMBER DELTA", 2, 2, func(ctx context.Context, c *leafCall) ([]column, error) {
			return c.counted(ctx, c.at.CounterZSet().Incr)
		}},
		{"countzset", "rem", "MEMBER...", 1, -1, leafCountedRemove},
		{"hll", "add", "ELEMENT...", 1, -1, leafHLLAdd},
		{"timeline", "add", "VALUE", 1, 1, leafTimelineAdd},
		{"timeline", "trim", "INSTANT", 1, 1, leafTimelineTrim},
	}
}

// leafUsage lists the operations.
func leafUsage() string {
	var lines []string
	for _, w := range leafWrites() {
		lines = append(lines, strings.TrimRight("  "+w.typ+" "+w.op+" "+w.takes, " "))
	}
	return strings.Join(lines, "\n")
}

// leafWriteOf finds an operation, and checks how many arguments it got.
func leafWriteOf(typ, op string, args []string) (leafWrite, error) {
	all := leafWrites()
	i := slices.IndexFunc(all, func(w leafWrite) bool { return w.typ == typ && w.op == op })
	if i < 0 {
		return leafWrite{}, usagef("there is no operation %q of a %s in a map; see atoll ormap update --help", op, typ)
	}
	if w := all[i]; len(args) < w.least || w.most >= 0 && len(args) > w.most {
		return leafWrite{}, usagef("%d arguments given, %s %s wants %s", len(args), typ, op, cmp.Or(w.takes, "none"))
	}
	return all[i], nil
}

func doneOf(err error) ([]column, error) { return []column{{"done", err == nil}}, err }

func versionOf(v string, err error) ([]column, error) { return []column{{"version", v}}, err }

func changeOf(c client.SetChange, err error) ([]column, error) {
	return []column{{"changed", c.Changed}, {"size", c.Size}}, err
}

func (c *leafCall) value(ctx context.Context, put func(context.Context, []byte, ...client.WriteOption) (string, error)) ([]column, error) {
	value, err := c.app.value(c.args[0])
	if err != nil {
		return nil, err
	}
	return versionOf(put(ctx, value, c.opts...))
}

func (c *leafCall) number(ctx context.Context, change func(context.Context, int64, ...client.WriteOption) (int64, error)) ([]column, error) {
	n, err := wholeNumber(c.args[0])
	if err != nil {
		return nil, err
	}
	value, err := change(ctx, n, c.opts...)
	return []column{{"value", value}}, err
}

func (c *leafCall) bytes() [][]byte {
	elements := make([][]byte, len(c.args))
	for i, arg := range c.args {
		elements[i] = []byte(arg)
	}
	return elements
}

func (c *leafCall) members(ctx context.Context, change func(context.Context, [][]byte, ...client.WriteOption) (client.SetChange, error)) ([]column, error) {
	return changeOf(change(ctx, c.bytes(), c.opts...))
}

func leafMapPut(ctx context.Context, c *leafCall) ([]column, error) {
	value, err := c.app.value(c.args[1])
	if err != nil {
		return nil, err
	}
	change, err := c.at.Map().Put(ctx, map[string][]byte{c.args[0]: value}, c.opts...)
	return changeOf(client.SetChange(change), err)
}

func leafMapRemove(ctx context.Context, c *leafCall) ([]column, error) {
	change, err := c.at.Map().Remove(ctx, c.args, c.opts...)
	return changeOf(client.SetChange(change), err)
}

func (c *leafCall) scored(ctx context.Context, change func(context.Context, []byte, float64, ...client.WriteOption) (client.ZSetChange, error)) ([]column, error) {
	given, err := parseScore(c.args[1])
	if err != nil {
		return nil, err
	}
	done, err := change(ctx, []byte(c.args[0]), given, c.opts...)
	return []column{{"score", score(done.Score)}, {"changed", done.Changed}, {"size", done.Size}}, err
}

func leafZSetRemove(ctx context.Context, c *leafCall) ([]column, error) {
	change, err := c.at.ZSet().Remove(ctx, c.bytes(), c.opts...)
	return []column{{"changed", change.Changed}, {"size", change.Size}}, err
}

func (c *leafCall) counted(ctx context.Context, change func(context.Context, []byte, int64, ...client.WriteOption) (client.CounterZSetChange, error)) ([]column, error) {
	n, err := wholeNumber(c.args[1])
	if err != nil {
		return nil, err
	}
	done, err := change(ctx, []byte(c.args[0]), n, c.opts...)
	return []column{{"score", done.Score}, {"changed", done.Changed}, {"size", done.Size}}, err
}

func leafCountedRemove(ctx context.Context, c *leafCall) ([]column, error) {
	change, err := c.at.CounterZSet().Remove(ctx, c.bytes(), c.opts...)
	return []column{{"changed", change.Changed}, {"size", change.Size}}, err
}

func leafHLLAdd(ctx context.Context, c *leafCall) ([]column, error) {
	change, err := c.at.HLL().Add(ctx, c.bytes(), c.opts...)
	return []column{{"count", change.Count}, {"changed", change.Changed}}, err
}

func leafTimelineAdd(ctx context.Context, c *leafCall) ([]column, error) {
	value, err := c.app.value(c.args[0])
	if err != nil {
		return nil, err
	}
	return changeOf(c.at.Timeline().Add(ctx, value, c.opts...))
}

func leafTimelineTrim(ctx context.Context, c *leafCall) ([]column, error) {
	before, err := c.app.instant("", c.args[0])
	if err != nil {
		return nil, usagef("%q is neither a time such as 2026-01-31T12:00:00Z nor a duration such as 90m", c.args[0])
	}
	return changeOf(c.at.Timeline().Trim(ctx, before, c.opts...))
}
