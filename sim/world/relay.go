package world

import (
	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/topology"
)

// relay answers with what was received here of another origin.
func (g *group) relay(asker *site, wanted protocol.Asked, answer func(response []byte)) {
	w := g.site.w
	id, _ := topology.ActorRegion(wanted.Actor)
	origin := w.sites[id-1]
	var frames [][]byte
	if f := g.session.flows[origin.index]; f != nil && f.actor == wanted.Actor {
		frames = f.ring.From(wanted.From, wanted.MaxBytes)
		g.checkRelayed(f, wanted.From, frames)
	}
	response, err := g.site.packer.EncodeRelayResponse(wanted, frames)
	if err != nil {
		w.fail("fetches can be answered", "%v", err)
		return
	}
	w.between(g.site, asker).send(response, answer)
}

// checkRelayed checks that what is passed on is the origin's, and goes on where it was asked for.
func (g *group) checkRelayed(f *flow, from uint64, frames [][]byte) {
	for _, frame := range frames {
		records, err := g.site.packer.DecodeEnvelope(g.streamOf(f.actor), frame)
		if err != nil || records[0].Begin() > from || records[len(records)-1].Seq < from {
			g.site.w.fail("what is passed on is what was asked for", "%v has something else from %d on of %v: %v", g.site, from, f.origin, err)
			return
		}
		from = records[len(records)-1].Seq + 1
	}
}

// fetched returns the runs of records that a fetch brought, each of an envelope.
func fetched(res *protocol.FetchResult) [][]protocol.Record {
	if len(res.Records) == 0 {
		return nil
	}
	return append([][]protocol.Record{res.Records}, res.More...)
}
