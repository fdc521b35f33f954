package replica

import (
	"encoding/binary"
	"fmt"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/internal/codec"
	"github.com/atolldb/atoll/hlc"
)

// registerKind keeps a crdt.LWWRegister whole, and what is to be done about it later in tables X and Y.
type registerKind struct{}

// RegisterChange is the whole new state of a register; its time and dot are the delta's.
type RegisterChange struct{ crdt.LWWRegister }

// storedRegister has Seq 0 if there is none.
type storedRegister struct{ crdt.LWWRegister }

func (s *storedRegister) append(b []byte) []byte { return s.Append(b) }
func (s *storedRegister) live(now hlc.Time) bool { return s.Live(now) }
func (s *storedRegister) version() string        { return s.Version() }
func (s *storedRegister) show(o *Object)         { o.Value, o.Expires = s.Value, s.Expires }
func (*RegisterChange) names(crdt.Actor) uint64  { return 0 }
func (registerKind) delete(o *operation) (Outcome, []Effect, error) {
	return o.put(crdt.LWWRegister{Deleted: true})
}

func (registerKind) decode(data []byte) (stored, error) {
	reg, err := crdt.DecodeLWWRegister(data)
	return &storedRegister{reg}, err
}

func checkValue(o *Op) error {
	if len(o.Value) > crdt.MaxValueBytes {
		return fmt.Errorf("value of %d bytes", len(o.Value))
	}
	return nil
}

func runPut(o *operation) (Outcome, []Effect, error) {
	return o.put(crdt.LWWRegister{Expires: o.Expires, Value: o.Value})
}

// put writes a register, whose event it fills in. A home's write is never under an earlier epoch than what it replaces: of a home
// that was given up before anybody else had heard of it, the values may be here. So a write is later than what its author has
// seen, as everywhere.
func (o *operation) put(reg crdt.LWWRegister) (Outcome, []Effect, error) {
	reg.Time, reg.Actor, reg.Seq, reg.Home = o.at, o.dot.Actor, o.dot.Seq, o.Home
	if o.Home != 0 && o.Namespace != HomeNamespace {
		reg.Home = max(o.Home, o.held.register.Home)
	}
	change := &RegisterChange{reg}
	if err := o.work.putRegister(o.key(crdt.TypeLWWRegister), &o.held.register.LWWRegister, &change.LWWRegister); err != nil {
		return Outcome{}, nil, err
	}
	return Outcome{Version: reg.Version()}, o.effects(crdt.TypeLWWRegister, change), nil
}

// expireRegister changes when a register expires, which is there.
func (o *operation) expireRegister(at hlc.Time) (Outcome, []Effect, error) {
	reg := o.held.register
	if reg.Expires == at {
		return Outcome{Version: reg.Version()}, nil, nil
	}
	return o.put(crdt.LWWRegister{Expires: at, Value: reg.Value, Unknown: reg.Unknown})
}

// merge keeps the later write of the two by (home, time, actor), but at a home region nothing that comes too late.
func (registerKind) merge(w *work, d *Delta, e *Effect) error {
	object := e.object()
	data, ok, err := w.kv.Get(object)
	if err != nil {
		return err
	}
	change := e.Change.(*RegisterChange)
	var have crdt.LWWRegister
	if ok {
		if have, err = crdt.DecodeLWWRegister(data); err != nil {
			return err
		}
	}
	if w.late(e.Namespace, &change.LWWRegister) {
		return w.refuseLate(contest{delta: d, effect: e}, &have, &change.LWWRegister)
	}
	if ok {
		if err := w.decide(contest{delta: d, effect: e}, &have, &change.LWWRegister); err != nil {
			return err
		}
	}
	if have.Compare(change.LWWRegister) > 0 {
		return nil
	}
	return w.putRegister(object, &have, &change.LWWRegister)
}

func (registerKind) digest(sum *digestSum, key []byte, s stored, last hlc.Time) uint64 {
	if s.live(last) {
		sum.item(key, nil, s.append(nil))
	}
	return 0
}

func (registerKind) explain(_ KV, s stored, e *Explained) error {
	e.Register = &s.(*storedRegister).LWWRegister
	return nil
}

const (
	registerDeleted = 1 << iota
	registerExpires
	registerFields
	registerHome
	registerFlags = registerDeleted | registerExpires | registerFields | registerHome
)

// append leaves out the write's time and dot, which are the delta's.
func (c *RegisterChange) append(b []byte) []byte {
	var flags byte
	if c.Deleted {
		flags |= registerDeleted
	}
	if c.Expires != 0 {
		flags |= registerExpires
	}
	if c.Unknown != "" {
		flags |= registerFields
	}
	if c.Home != 0 {
		flags |= registerHome
	}
	b = append(b, flags)
	if c.Unknown != "" {
		b = codec.AppendBytes(b, c.Unknown)
	}
	if c.Expires != 0 {
		b = binary.BigEndian.AppendUint64(b, uint64(c.Expires))
	}
	if c.Home != 0 {
		b = binary.AppendUvarint(b, c.Home)
	}
	return codec.AppendBytes(b, c.Value)
}

func (registerKind) owns(c Change) bool { _, ok := c.(*RegisterChange); return ok }

func (registerKind) decodeChange(r *codec.Reader, d *Delta) Change {
	reg := crdt.LWWRegister{Time: d.Time, Actor: d.Dot.Actor, Seq: d.Dot.Seq}
	flags := r.Byte()
	if flags&^registerFlags != 0 {
		r.Fail("unknown register flags %#x", flags)
	}
	reg.Deleted = flags&registerDeleted != 0
	if flags&registerFields != 0 {
		reg.Unknown = crdt.Fields(r.Bytes(crdt.MaxFieldsBytes))
		if reg.Unknown == "" {
			r.Fail("fields flagged but none")
		}
	}
	if flags&registerExpires != 0 {
		reg.Expires = hlc.Time(r.Uint64())
		if reg.Expires == 0 {
			r.Fail("expiry flagged but 0")
		}
	}
	if flags&registerHome != 0 {
		if reg.Home = r.Uvarint(^uint64(0)); reg.Home == 0 {
			r.Fail("home flagged but 0")
		}
	}
	reg.Value = r.Bytes(crdt.MaxValueBytes)
	return &RegisterChange{reg}
}

func (c *RegisterChange) fault(d *Delta) string {
	switch {
	case c.Dot() != d.Dot || c.Time != d.Time:
		return "register of another event"
	case len(c.Value) > crdt.MaxValueBytes:
		return "value too large"
	case c.Deleted && (len(c.Value) > 0 || c.Expires != 0):
		return "deleted register with a value"
	case !c.Unknown.Valid():
		return "fields out of order or out of bounds"
	default:
		return ""
	}
}
