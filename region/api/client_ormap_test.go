package api

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
)

// TestClientORMap uses every handle of a leaf against a server.
func TestClientORMap(t *testing.T) {
	r := setup(t, 1, 4, 0)
	c, err := client.New([]string{r.url("eu-0")})
	noError(t, err)
	t.Cleanup(func() { noError(t, c.Close()) })
	user := c.ORMap("m").At("42")
	clientRegister(t, user)
	clientObserved(t, user)
	clientTimed(t, user)
	clientReads(t, c, user)
	clientRemovals(t, c, user)
}

func byteStrings(s ...string) (all [][]byte) {
	for _, e := range s {
		all = append(all, []byte(e))
	}
	return all
}

func clientRegister(t *testing.T, user *client.ORMapPath) {
	t.Helper()
	ctx := testContext(t)
	_, err := user.At("name").Register().Get(ctx)
	equal(t, "absent register", errors.Is(err, client.ErrNotFound), true)
	version, err := user.At("name").Register().Put(ctx, []byte("Ann"))
	noError(t, err)
	_, err = user.At("name").Register().Put(ctx, []byte("Bea"), client.IfAbsent())
	equal(t, "put of what is there", errors.Is(err, client.ErrAlreadyExists), true)
	_, err = user.At("name").Register().CompareAndSwap(ctx, []byte("Eve"), []byte("Bea"))
	equal(t, "swap of another value", errors.Is(err, client.ErrValueMismatch), true)
	_, err = user.At("name").Register().Put(ctx, []byte("Cid"), client.IfVersion(version))
	noError(t, err)
	name, err := user.At("name").Register().Get(ctx)
	noError(t, err)
	equal(t, "name", string(name.Bytes), "Cid")
}

// clientObserved uses the leaves that are decided by what was observed.
func clientObserved(t *testing.T, user *client.ORMapPath) {
	t.Helper()
	ctx := testContext(t)
	n, err := user.At("visits").Counter().Add(ctx, 5)
	noError(t, err)
	equal(t, "visits", n, 5)
	n, err = user.At("visits").Counter().Value(ctx)
	noError(t, err)
	equal(t, "visits", n, 5)
	_, err = user.At("tags").Set().Add(ctx, byteStrings("x", "y"))
	noError(t, err)
	contains, err := user.At("tags").Set().Contains(ctx, byteStrings("x", "z"))
	noError(t, err)
	equal(t, "contains", fmt.Sprint(contains), "[true false]")
	_, err = user.At("on").Flag().Enable(ctx)
	noError(t, err)
	_, err = user.At("mv").MVRegister().Put(ctx, []byte("one"))
	noError(t, err)
	siblings, err := user.At("mv").MVRegister().Siblings(ctx)
	noError(t, err)
	equal(t, "siblings", len(siblings), 1)
	_, err = user.At("counted").CounterZSet().Incr(ctx, []byte("a"), 2)
	noError(t, err)
}

// clientTimed uses the leaves that are decided by time.
func clientTimed(t *testing.T, user *client.ORMapPath) {
	t.Helper()
	ctx := testContext(t)
	_, err := user.At("best").Max().Raise(ctx, 7)
	noError(t, err)
	n, found, err := user.At("best").Max().Value(ctx)
	noError(t, err)
	equal(t, "best", fmt.Sprint(n, found), "7 true")
	_, _, err = user.At("best").Min().Value(ctx)
	equal(t, "minimum of a maximum", errors.Is(err, client.ErrWrongType), true)
	_, err = user.At("worst").Min().Lower(ctx, 3)
	noError(t, err)
	_, err = user.At("fields").Map().Put(ctx, map[string][]byte{"f": []byte("v")})
	noError(t, err)
	_, err = user.At("scores").ZSet().Add(ctx, []byte("a"), 1.5)
	noError(t, err)
	_, err = user.At("seen").HLL().Add(ctx, byteStrings("a", "b"))
	noError(t, err)
	_, err = user.At("log").Timeline().Add(ctx, []byte("entry"))
	noError(t, err)
	entries := 0
	for e, err := range user.At("log").Timeline().Entries(ctx, client.TimelineRange{}) {
		noError(t, err)
		equal(t, "entry", string(e.Value), "entry")
		entries++
	}
	equal(t, "entries", entries, 1)

}

func clientReads(t *testing.T, c *client.Client, user *client.ORMapPath) {
	t.Helper()
	ctx := testContext(t)
	var said []string
	for n, err := range user.Names(ctx) {
		noError(t, err)
		said = append(said, fmt.Sprint(n.Name, ":", n.Leaves[0].Type))
	}
	equal(t, "names", strings.Join(said, " "),
		"best:max counted:countzset fields:map log:timeline mv:mvregister name:register on:flag scores:zset seen:hll tags:set visits:counter worst:min")
	v, err := c.Get(ctx, "m")
	noError(t, err)
	equal(t, "map", fmt.Sprintf("%v %d %+v", v.Type, v.Size, v.Names), "ormap 12 [{Name:42 Leaves:[] Below:true}]")
	size, err := c.ORMap("m").Size(ctx)
	noError(t, err)
	equal(t, "size", size, 12)

}

func clientRemovals(t *testing.T, c *client.Client, user *client.ORMapPath) {
	t.Helper()
	ctx, m := testContext(t), c.ORMap("m")
	existed, err := user.At("mv").MVRegister().Delete(ctx)
	noError(t, err)
	equal(t, "existed", existed, true)
	existed, err = user.Delete(ctx, client.TypeCounter)
	noError(t, err)
	equal(t, "existed", existed, false)
	_, err = user.Delete(ctx, 0)
	equal(t, "delete of no type", errors.Is(err, client.ErrInvalidArgument), true)
	_, err = m.At().Counter().Add(ctx, 1)
	equal(t, "leaf at no path", errors.Is(err, client.ErrInvalidArgument), true)
	_, err = user.At("ttl").Register().Put(ctx, []byte("v"), client.WithTTL(time.Minute))
	noError(t, err)
	whole, err := c.Get(ctx, "m")
	noError(t, err)
	equal(t, "time to live of the map", whole.TTL, time.Minute)
	_, err = c.Persist(ctx, "m", client.OfType(client.TypeORMap))
	noError(t, err)
	whole, err = c.Get(ctx, "m")
	noError(t, err)
	equal(t, "time to live of the map", whole.TTL, 0)

	results, err := c.Batch(ctx, []client.Write{
		client.NewLeafWrite(client.NewPut("m", []byte("v")), "43", "name"),
		client.NewLeafWrite(client.NewCounterAdd("m", 2), "43", "visits"),
		client.NewLeafWrite(client.NewDelete("m"), "42"),
		client.NewLeafWrite(client.NewDelete("m", client.OfType(client.TypeCounter)), "43", "visits"),
	})
	noError(t, err)
	for i, r := range results {
		noError(t, r.Err)
		equal(t, "version", r.Version != "", true)
		equal(t, "removed", r.ORMap.Changed, uint64([]int{0, 0, 12, 0}[i]))
	}
	removed, err := m.Remove(ctx)
	noError(t, err)
	equal(t, "removed", removed, client.SetChange{Changed: 1})
	leaves, err := m.At("43", "name").Leaves(ctx)
	noError(t, err)
	equal(t, "leaves", len(leaves), 0)
}
