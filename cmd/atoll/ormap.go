package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
)

func newORMap(a *app) *cobra.Command {
	return commandOfType(&cobra.Command{
		Use:   "ormap",
		Short: "Read and write observed-remove maps",
		Long: "Read and write observed-remove maps: paths of up to 4 names, separated by slashes, lead to values of any\n" +
			"other type but bounded counters. Writes to different paths never meet. A remove takes away what the\n" +
			"region sees at a path and below it; what another region adds there meanwhile survives.",
		Example: `  atoll ormap update users 42/visits counter add 1
  atoll ormap update users 42/tags set add new vip
  atoll ormap get users 42
  atoll ormap remove users 42`,
	}, newORMapGet(a), newORMapUpdate(a), newORMapRemove(a))
}

// separated splits paths into names.
type separated struct{ by string }

func (s *separated) flag(c *cobra.Command) {
	c.Flags().StringVar(&s.by, "separator", "/", "what separates the names of a path")
}

// path returns the names of a path, none for the empty one.
func (s *separated) path(text string) ([]string, error) {
	switch {
	case s.by == "":
		return nil, usagef("--separator must not be empty")
	case text == "":
		return nil, nil
	}
	names := strings.Split(text, s.by)
	if slices.Contains(names, "") {
		return nil, usagef("%q has an empty name", text)
	}
	return names, nil
}

func newORMapUpdate(a *app) *cobra.Command {
	var names separated
	var cond conditions
	c := newFieldsWrite(a, &cobra.Command{
		Use:   "update KEY PATH TYPE OP [ARG...]",
		Short: "Write a value in a map",
		Long: "Do an operation on the value of a type at a path of a map, and print what it answers: a number, how\n" +
			"many elements changed, or a version. Conditions are about that value, and --ttl is about the whole map.\n" +
			"The operations are:\n\n" + leafUsage() + "\n\n" +
			"VALUE may be - for stdin or @FILE. Write -- before arguments if one is negative.",
		Example: `  atoll ormap update users 42/name register put Ann --if-absent
  atoll ormap update users 42/visits counter add 5
  atoll ormap update users 42/visits -- counter add -5
  atoll ormap update users 42/fields map put city Oslo
  atoll ormap update cart:7 apples counter add 3 --ttl 24h`,
		Args: wants(4, -1, "KEY, PATH, TYPE, OP and what it takes"),
	}, func(kv *client.Client, cmd *cobra.Command, args []string, opts []client.WriteOption) ([]column, error) {
		path, err := names.path(args[1])
		if err != nil {
			return nil, err
		}
		more, err := cond.options(cmd)
		if err != nil {
			return nil, err
		}
		write, err := leafWriteOf(args[2], args[3], args[4:])
		if err != nil {
			return nil, err
		}
		return write.do(cmd.Context(), &leafCall{
			app: a, at: kv.ORMap(args[0]).At(path...), args: args[4:], opts: append(opts, more...),
		})
	})
	c.Flags().Lookup("ttl").Usage = "let the whole map expire after this time; without it the map's time to live stays"
	cond.flags(c)
	c.Flags().BoolVar(&cond.absent, "if-absent", false, "only if there is no such value")
	names.flag(c)
	return c
}

func newORMapRemove(a *app) *cobra.Command {
	var names separated
	var only string
	c := newFieldsWrite(a, &cobra.Command{
		Use:   "remove KEY [PATH]",
		Short: "Remove what is at a path and below",
		Long: "Remove from a map all values that the region sees at a path and below it, or everything, and print\n" +
			"how many. At most 10 000 at once. With --type, remove the value of that type at the path alone.",
		Example: `  atoll ormap remove users 42
  atoll ormap remove users 42/visits --type counter
  atoll ormap remove users`,
		Args: wants(1, 2, "KEY [PATH]"),
	}, func(kv *client.Client, cmd *cobra.Command, args []string, opts []client.WriteOption) ([]column, error) {
		path, err := names.path(append(args, "")[1])
		if err != nil {
			return nil, err
		}
		at := kv.ORMap(args[0]).At(path...)
		if only == "" {
			change, err := at.Remove(cmd.Context(), opts...)
			return []column{{"removed", change.Changed}, {"size", change.Size}}, err
		}
		i := slices.IndexFunc(client.Types(), func(t client.Type) bool { return t.String() == only })
		if i < 0 {
			return nil, usagef("%q is not a type", only)
		}
		existed, err := at.Delete(cmd.Context(), client.Types()[i], opts...)
		removed := 0
		if existed {
			removed = 1
		}
		return []column{{"removed", removed}}, err
	})
	c.Flags().StringVar(&only, "type", "", "remove only the value of this type, and nothing below")
	names.flag(c)
	return c
}

func newORMapGet(a *app) *cobra.Command {
	var names separated
	var limit int
	var flat bool
	c := newFieldsRead(a, &cobra.Command{
		Use:   "get KEY [PATH]",
		Short: "Print the values of a map",
		Long: "Print the values at a path of a map and below it, or all of them, one per line: the path, a tab, the\n" +
			"type, a tab, the value; of a collection what atoll get shows in a table. With -o json each line is an\n" +
			"object. With --names, print only the names right below the path. An absent map has none.",
		Example: `  atoll ormap get users
  atoll ormap get users 42 -o json
  atoll ormap get users --names --limit 10`,
		Args: wants(1, 2, "KEY [PATH]"),
	}, func(kv *client.Client, cmd *cobra.Command, args []string, opts []client.ReadOption, print func(fieldsLine) error) error {
		path, err := names.path(append(args, "")[1])
		if err != nil {
			return err
		}
		w := leafWalk{key: args[0], separator: names.by, left: cmp.Or(limit, -1), opts: opts, print: print}
		m := kv.ORMap(args[0])
		if flat {
			return w.names(cmd.Context(), m.At(path...))
		}
		return w.tree(cmd.Context(), m, path)
	})
	f := c.Flags()
	f.IntVar(&limit, "limit", 0, "print at most this many; 0 means all")
	f.BoolVar(&flat, "names", false, "print only the names right below the path")
	names.flag(c)
	return c
}

// leafWalk prints values of a map until nothing is left of a limit; a negative one is none.
type leafWalk struct {
	key       string
	separator string
	left      int
	opts      []client.ReadOption
	print     func(fieldsLine) error
}

func (w *leafWalk) line(l fieldsLine) error {
	w.left--
	return w.print(l)
}

// names prints the names right below a path.
func (w *leafWalk) names(ctx context.Context, at *client.ORMapPath) error {
	for n, err := range at.Names(ctx, w.opts...) {
		if err != nil || w.left == 0 {
			return err
		}
		if err := w.line(fieldsLine{n.Name, printable([]byte(n.Name), -1), n.Name}); err != nil {
			return err
		}
	}
	return nil
}

// tree prints the values at a path, and then below it.
func (w *leafWalk) tree(ctx context.Context, m *client.ORMap, path []string) error {
	if len(path) > 0 {
		leaves, err := m.At(path...).Leaves(ctx, w.opts...)
		if err != nil {
			return err
		}
		if err := w.leaves(path, leaves); err != nil {
			return err
		}
	}
	return w.below(ctx, m, path)
}

func (w *leafWalk) below(ctx context.Context, m *client.ORMap, path []string) error {
	for n, err := range m.At(path...).Names(ctx, w.opts...) {
		if err != nil || w.left == 0 {
			return err
		}
		full := append(slices.Clone(path), n.Name)
		if err := w.leaves(full, n.Leaves); err != nil {
			return err
		}
		if n.Below {
			if err := w.below(ctx, m, full); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *leafWalk) leaves(path []string, leaves []client.Value) error {
	for _, v := range leaves {
		if w.left == 0 {
			return nil
		}
		if err := w.line(leafLine(w.key, path, strings.Join(path, w.separator), v)); err != nil {
			return err
		}
	}
	return nil
}

// leafItem is a value in a map as JSON.
type leafItem struct {
	Path []string `json:"path"`
	item
}

func leafLine(key string, path []string, joined string, v client.Value) fieldsLine {
	return fieldsLine{
		raw:   joined + "\t" + v.Type.String() + "\t" + shown(v, -1),
		shown: printable([]byte(joined), -1) + "\t" + v.Type.String() + "\t" + shown(v, -1),
		json:  leafItem{path, itemOf(key, v, false)},
	}
}

// addNames fills in what an item has of a map of values.
func (it *item) addNames(v client.Value) {
	it.Size = &v.Size
	for _, n := range v.Names {
		it.Names = append(it.Names, n.Name)
	}
}

// shownNames returns a map of values for a table.
func shownNames(v client.Value) string {
	var names []string
	for i, n := range v.Names {
		if i == 5 {
			names = append(names, "…")
			break
		}
		names = append(names, printable([]byte(n.Name), 40))
	}
	return fmt.Sprintf("%d values under %s", v.Size, strings.Join(names, ", "))
}

// rawNames returns the outermost names of a map of values for a pipe, line by line.
func rawNames(v client.Value) string {
	var b strings.Builder
	for _, n := range v.Names {
		b.WriteString(n.Name + "\n")
	}
	return b.String()
}
