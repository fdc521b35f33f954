package membership

import "github.com/atolldb/atoll/topology"

// Encode returns the command's one encoding.
func (c *Command) Encode() []byte {
	w := newWriter(commandMagic, c.Kind == NameHeir)
	for _, n := range []uint64{uint64(c.Kind), uint64(c.Region), uint64(c.Epoch), uint64(c.Member), c.Round, uint64(c.Dead)} {
		w.number(n)
	}
	for _, s := range []string{c.Name, c.Address, c.Note, c.Witness.Name, c.Witness.Address} {
		w.text(s)
	}
	w.vector(c.Vector)
	w.number(uint64(len(c.Founding)))
	for _, f := range c.Founding {
		w.number(uint64(f.ID))
		w.number(uint64(f.Epoch))
		w.text(f.Name)
		w.text(f.Address)
	}
	return w.seal()
}

// DecodeCommand reads a command; it is not yet known to make sense. Errors: ErrEncoding.
func DecodeCommand(data []byte) (Command, error) {
	r := newReader(commandMagic, data, maxCommandBytes)
	c := Command{
		Kind: Kind(r.number(uint64(lastKind))), Region: r.region(), Epoch: r.epoch(), Member: r.region(),
		Round: r.number(^uint64(0)), Dead: r.set(),
		Name: r.text(maxClusterBytes), Address: r.text(maxAddressBytes), Note: r.text(maxNoteBytes),
		Witness: topology.Witness{Name: r.text(maxClusterBytes), Address: r.text(maxAddressBytes)},
		Vector:  r.vector(),
	}
	const least = 4 // two numbers and two lengths
	for range r.count(MaxLiving, least) {
		c.Founding = append(c.Founding, FoundingRegion{
			ID: r.region(), Epoch: r.epoch(), Name: r.text(maxNameBytes), Address: r.text(maxAddressBytes),
		})
	}
	if r.heirs != (c.Kind == NameHeir) {
		r.fail("a command of another version")
	}
	if err := r.done(); err != nil {
		return Command{}, err
	}
	return c, nil
}
