package raftlog

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

var damages = flag.Int("damages", 150, "how often the campaign damages a log")

const (
	campaignDir = "log"
	// perHistory is how often the log of one history is damaged.
	perHistory = 25
)

// history is what a log held after each synced write, as text, and what it wrote.
type history struct {
	t      *testing.T
	rng    *rand.Rand
	log    *Log
	states []string // states[k] is after k writes
	groups map[uint32][]string
	first  map[uint32]uint64
	stable map[string]string
	// sealed is how many writes no longer depend on the last WAL.
	sealed int
}

func (h *history) state() string {
	var b strings.Builder
	for id := range uint32(3) {
		fmt.Fprintf(&b, "group %d from %d: %v vote %s term %s\n", id, h.first[id], h.groups[id],
			h.stable[fmt.Sprint(id, "vote")], h.stable[fmt.Sprint(id, "term")])
	}
	return b.String()
}

// write does one random write, and notes what the log holds then.
func (h *history) write() error {
	id, n := uint32(h.rng.IntN(3)), len(h.states)
	g, err := h.log.Group(id)
	if err != nil {
		return err
	}
	held := h.groups[id]
	switch pick := h.rng.IntN(10); {
	case pick == 0:
		h.stable[fmt.Sprint(id, "vote")] = fmt.Sprintf("n%d", n)
		err = g.Set([]byte("vote"), fmt.Appendf(nil, "n%d", n))
	case pick == 1:
		h.stable[fmt.Sprint(id, "term")] = fmt.Sprint(n)
		err = g.SetUint64([]byte("term"), uint64(n))
	case pick == 2 && len(held) > 3: // truncate
		keep := len(held) - 1 - h.rng.IntN(3)
		low := h.first[id] + uint64(keep)
		h.groups[id] = slices.Clone(held[:keep])
		err = g.DeleteRange(low, ^uint64(0))
	case pick == 3 && len(held) > 20: // cut
		cut := 1 + h.rng.IntN(10)
		h.first[id] += uint64(cut)
		h.groups[id] = slices.Clone(held[cut:])
		g.SetDurable(h.first[id] - 1)
		err = g.DeleteRange(0, h.first[id]-1)
	default:
		var more []Entry
		for i := range 1 + h.rng.IntN(4) {
			data := fmt.Sprintf("%d.%d", n, i)
			h.groups[id] = append(h.groups[id], data)
			index := h.first[id] + uint64(len(h.groups[id])) - 1
			// Most of an entry is padding, so that damage meets payloads too.
			more = append(more, Entry{Index: index, Term: uint64(n), Data: fmt.Appendf(nil, "%s %s", data, strings.Repeat("x", h.rng.IntN(400)))})
		}
		err = g.Append(more)
	}
	h.states = append(h.states, h.state())
	return err
}

// read returns what a log holds, as text, or the first error.
func read(l *Log) (string, error) {
	h := &history{groups: map[uint32][]string{}, first: map[uint32]uint64{}, stable: map[string]string{}}
	for id := range uint32(3) {
		g, err := l.Group(id)
		if err != nil {
			return "", err
		}
		s := g.Stats()
		h.first[id] = max(s.First, 1)
		for index := s.First; index != 0 && index <= s.Last; index++ {
			e, err := g.Entry(index)
			if err != nil {
				return "", err
			}
			data, padding, _ := bytes.Cut(e.Data, []byte(" "))
			if strings.Trim(string(padding), "x") != "" || !strings.HasPrefix(string(data), fmt.Sprint(e.Term, ".")) {
				return fmt.Sprintf("group %d entry %d of term %d is %q", id, index, e.Term, e.Data), nil
			}
			h.groups[id] = append(h.groups[id], string(data))
		}
		vote, err := g.Get([]byte("vote"))
		if err != nil && !errors.Is(err, ErrNotFound) {
			return "", err
		}
		h.stable[fmt.Sprint(id, "vote")] = string(vote)
		term, err := g.GetUint64([]byte("term"))
		if err != nil {
			return "", err
		}
		if term != 0 {
			h.stable[fmt.Sprint(id, "term")] = fmt.Sprint(term)
		}
	}
	return h.state(), nil
}

// live makes a log on fs with tables, WALs that were recycled, and restarts, and leaves it as a crash
// would.
func (h *history) live(fs vfs.FS) {
	h.t.Helper()
	h.groups, h.first, h.stable = map[uint32][]string{}, map[uint32]uint64{0: 1, 1: 1, 2: 1}, map[string]string{}
	h.states = []string{h.state()}
	parts := 1 + h.rng.IntN(7)
	for part := range parts {
		if part == 0 || h.rng.IntN(3) == 0 {
			if h.log != nil {
				if err := h.log.Close(); err != nil {
					h.t.Fatal(err)
				}
			}
			h.log = openLog(h.t, campaignDir, Options{fs: fs, CacheBytes: 1})
			h.sealed = len(h.states) - 1
		}
		for range 10 + h.rng.IntN(60) {
			if err := h.write(); err != nil {
				h.t.Fatal(err)
			}
		}
		if part != parts-1 {
			if err := h.log.db.Flush(); err != nil {
				h.t.Fatal(err)
			}
			h.sealed = len(h.states) - 1
		}
	}
}

// damage is one change of one file.
type damage struct {
	file     string
	kind     string
	at, size int
}

func (d damage) String() string {
	return fmt.Sprintf("%s %s at %d of %d bytes", d.kind, d.file, d.at, d.size)
}

// inflict damages one file of the log at random.
func inflict(fs vfs.FS, rng *rand.Rand) (damage, error) {
	names, err := fs.List(campaignDir)
	if err != nil {
		return damage{}, err
	}
	slices.Sort(names)
	for {
		d := damage{file: names[rng.IntN(len(names))]}
		content, err := readFile(fs, d.file)
		if err != nil || len(content) == 0 {
			if err != nil {
				return d, err
			}
			continue
		}
		d.size, d.at = len(content), rng.IntN(len(content))
		switch rng.IntN(3) {
		case 0:
			d.kind = "flip"
			content[d.at] ^= 1 << rng.IntN(8)
		case 1:
			d.kind = "truncate"
			content = content[:d.at]
		case 2:
			d.kind = "zero"
			d.at -= d.at % 512
			clear(content[d.at:min(d.at+512, len(content))])
		}
		return d, writeFile(fs, d.file, content)
	}
}

func readFile(fs vfs.FS, name string) ([]byte, error) {
	f, err := fs.Open(fs.PathJoin(campaignDir, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

func writeFile(fs vfs.FS, name string, content []byte) error {
	f, err := fs.Create(fs.PathJoin(campaignDir, name), "")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

// Whatever bit flips, sector is zeroed or end is cut off in whatever file: opening or reading the log
// names the damage, or all is there. Only a write torn off the log's end may be absent, and then
// everything before it is there.
func TestDamageIsNamedOrHarmless(t *testing.T) {
	counts := map[string]int{}
	for round := range (*damages + perHistory - 1) / perHistory {
		rng := rand.New(rand.NewPCG(7, uint64(round)))
		base := vfs.NewCrashableMem()
		h := &history{t: t, rng: rng}
		h.live(base)
		crashed := base.CrashClone(vfs.CrashCloneCfg{})
		newest, err := lastWAL(crashed, campaignDir)
		if err != nil {
			t.Fatal(err)
		}
		for range perHistory {
			fs := crashed.CrashClone(vfs.CrashCloneCfg{})
			d, err := inflict(fs, rng)
			if err != nil {
				t.Fatal(err)
			}
			counts[h.judge(fs, d, newest)]++
		}
	}
	t.Logf("%v", counts)
	if counts["named"] < *damages/4 {
		t.Errorf("only %d of %d were named", counts["named"], *damages)
	}
}

// judge opens a damaged log and says how that went.
func (h *history) judge(fs vfs.FS, d damage, newest string) string {
	h.t.Helper()
	got, err := func() (string, error) {
		l, err := Open(campaignDir, Options{fs: fs, CacheBytes: 1, OnFailure: func(error) {}})
		if err != nil {
			return "", err
		}
		defer l.Close()
		return read(l)
	}()
	all := len(h.states) - 1
	kept := slices.Index(h.states, got)
	switch {
	case isCorrupt(err):
		return "named"
	case err != nil:
		h.t.Errorf("%v: not a typed error: %v", d, err)
	case kept == all:
		return "harmless"
	case kept < 0:
		h.t.Errorf("%v: the log holds what it never held:\n%s", d, got)
	case d.file != newest:
		h.t.Errorf("%v: %d writes of %d are gone, and the newest WAL is %s", d, all-kept, all, newest)
	case kept >= h.sealed && d.kind == "truncate", kept >= h.sealed && d.kind == "zero" && d.size-d.at < 4096, kept >= all-2:
		return "torn"
	default:
		h.t.Errorf("%v: %d writes of %d are gone", d, all-kept, all)
	}
	return "wrong"
}
