package main

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
)

func newMVRegister(a *app) *cobra.Command {
	c := commandOfType(&cobra.Command{
		Use:     "mvregister",
		Aliases: []string{"mvr"},
		Short:   "Put and read a register that keeps concurrent values",
		Long: "Put and read a multi-value register. Values put in different regions at once all stay, as siblings,\n" +
			"until a put that has seen them takes their place. atoll get prints the latest one, atoll del\n" +
			"removes those that the region has.",
		Example: `  atoll mvregister put cart '["pear"]'
  atoll mvregister get cart
  atoll mvregister put cart '["pear","fig"]' --if-version "$(atoll get cart -o json | jq -r .version)"`,
	}, newMVRegisterPut(a), newMVRegisterGet(a))
	return c
}

func newMVRegisterPut(a *app) *cobra.Command {
	return newTypedWrite(a, &cobra.Command{
		Use:   "put KEY VALUE|-|@FILE",
		Short: "Put a value in place of those that the region has",
		Long: "Put VALUE, what stdin holds (-), or what a file holds (@FILE), in place of the values that the\n" +
			"region has, and print the new version. A value put in another region meanwhile stays beside it.\n" +
			"With --if-version of what was read, nothing is overwritten unread.",
		Example: `  atoll mvregister put cart '["pear"]'
  atoll mvregister put cart @merged.json --if-version 1.2a
  atoll mvregister put cart - --durability local`,
		Args: wants(2, 2, "KEY and VALUE"),
	}, func(kv *client.Client, cmd *cobra.Command, args []string, opts []client.WriteOption) (string, error) {
		value, err := a.value(args[1])
		if err != nil {
			return "", err
		}
		return kv.MVRegister(args[0]).Put(cmd.Context(), value, opts...)
	})
}

func newMVRegisterGet(a *app) *cobra.Command {
	var r reads
	c := &cobra.Command{
		Use:   "get KEY",
		Short: "Print the values, the latest first",
		Long: "Print all values of a multi-value register, the latest first, one per line on a pipe. With -o json\n" +
			"each comes with the region and the time of its put. An absent register has no values.",
		Example: `  atoll mvregister get cart
  atoll mvregister get cart -o json | jq -r '.siblings[] | .region + ": " + .value'
  atoll mvregister get cart --consistency eventual`,
		Args:              wants(1, 1, "KEY"),
		ValidArgsFunction: a.completeKeys(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var info client.Info
			kv, opts, err := a.reading(cmd, &r, &info)
			if err != nil {
				return err
			}
			siblings, err := kv.MVRegister(args[0]).Siblings(cmd.Context(), opts...)
			if err != nil {
				return err
			}
			it := item{Key: args[0], Type: client.TypeMVRegister.String(), Siblings: siblingItems(siblings)}.answeredBy(info)
			fields := []field{{"key", printable([]byte(args[0]), 200)}}
			var raw strings.Builder
			for _, s := range siblings {
				raw.Write(append(s.Value[:len(s.Value):len(s.Value)], '\n'))
				fields = append(fields, field{"value", fmt.Sprintf("%s (%s at %s)", printable(s.Value, 200), s.Region, s.Time.UTC().Format(time.RFC3339Nano))})
			}
			return a.result(it, raw.String(), append(fields, whereFields(info)...))
		},
	}
	r.flags(c)
	return c
}

// siblingItem is a sibling as JSON.
type siblingItem struct {
	Value       *string   `json:"value,omitempty"`
	ValueBase64 []byte    `json:"value_base64,omitempty"`
	Region      string    `json:"region"`
	Time        time.Time `json:"time"`
}

func siblingItems(siblings []client.Sibling) []siblingItem {
	var items []siblingItem
	for _, s := range siblings {
		it := siblingItem{Region: s.Region, Time: s.Time.UTC()}
		if utf8.Valid(s.Value) {
			text := string(s.Value)
			it.Value = &text
		} else {
			it.ValueBase64 = s.Value
		}
		items = append(items, it)
	}
	return items
}

// shownSiblings shows the latest value, and how many there are beside it.
func shownSiblings(v client.Value, width int) string {
	if others := len(v.Siblings) - 1; others > 0 {
		return fmt.Sprintf("%s (and %d concurrent)", printable(v.Bytes, width), others)
	}
	return printable(v.Bytes, width)
}
