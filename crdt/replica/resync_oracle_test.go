package replica

import (
	"errors"
	"fmt"
	"strings"

	"github.com/atolldb/atoll/crdt"
)

// resync begins to take over another region's state, or goes on doing so, on the leader and the follower alike.
func (w *world) resync(s *site) error {
	if s.transfer == nil {
		return w.beginResync(s)
	}
	t := s.transfer
	state, ok := s.leader.r.Resync()
	switch {
	case !ok || state.ID != t.id:
		return fmt.Errorf("region %d: resync %d is gone", s.actor, t.id)
	case state.Cursor.End:
		s.transfer = nil
		w.note("%d: resync ends", s.actor)
		return errors.Join(s.leader.r.EndResync(t.id), s.follower.r.EndResync(t.id))
	case w.rng.IntN(20) == 0:
		s.transfer = nil
		w.note("%d: gives up", s.actor)
		return errors.Join(s.leader.r.AbandonResync(t.id), s.follower.r.AbandonResync(t.id))
	}
	c, err := t.view.Export(state.Cursor, 1+w.rng.IntN(60))
	if err != nil {
		return err
	}
	limit := 1 + w.rng.IntN(5)
	s.leader.r.joinLimit, s.follower.r.joinLimit = limit, limit
	joined, err := s.leader.r.JoinChunk(t.id, c)
	again, err2 := s.follower.r.JoinChunk(t.id, c)
	w.note("%d: join up to %+v -> %+v, %v", s.actor, c.To, joined, err)
	if fmt.Sprint(joined) != fmt.Sprint(again) {
		return fmt.Errorf("leader joins %+v, follower %+v", joined, again)
	}
	return errors.Join(err, err2)
}

func (w *world) beginResync(s *site) error {
	from := w.regions[w.rng.IntN(len(w.regions))]
	if from == s || from.leader.r.Resyncing() || from.leader.r.Vector().Len() == 0 {
		return nil
	}
	if err := from.leader.r.Flush(); err != nil {
		return err
	}
	view, err := Open(from.leader.kv.Clone(), from.actor)
	if err != nil {
		return err
	}
	d, err := view.Donor()
	if err != nil {
		return err
	}
	t := &transfer{id: w.rng.Uint64() | 1, view: view, donor: d}
	err, err2 := s.leader.r.BeginResync(t.id, d), s.follower.r.BeginResync(t.id, d)
	switch {
	case fmt.Sprint(err) != fmt.Sprint(err2):
		return fmt.Errorf("leader begins with %w, follower with %w", err, err2)
	case errors.Is(err, ErrResyncNotNeeded) || errors.Is(err, ErrTooManyResyncs):
		return nil
	}
	w.note("%d: resync from %d at %v: %v", s.actor, from.actor, d.Vector, err)
	s.transfer = t
	return err
}

// endResyncs has all come to an end.
func (w *world) endResyncs() error {
	for _, s := range w.regions {
		for s.transfer != nil {
			if err := w.resync(s); err != nil {
				return err
			}
		}
	}
	return nil
}

// seenAt returns what a region has applied to a key: more than its vector says, if a resync has come past it. whole
// is false if one is in the middle of the key.
func (s *site) seenAt(key string) (seen map[uint32]uint64, whole bool) {
	seen, whole = vectorMap(s.leader.r), true
	prefix := positionOf(objectPrefix("n", key))
	for i := range s.leader.r.meta.layers {
		l := &s.leader.r.meta.layers[i]
		switch {
		case l.cursor.End || l.cursor.Object > prefix && !strings.HasPrefix(l.cursor.Object, prefix):
			l.donor.Vector.Each(func(a crdt.Actor, seq uint64) { seen[uint32(a)] = max(seen[uint32(a)], seq) })
		case strings.HasPrefix(l.cursor.Object, prefix):
			whole = false
		}
	}
	return seen, whole
}
