package main

import (
	"fmt"
	"slices"

	"github.com/atolldb/atoll/bench/figures"
)

// verdict says whether a goal is reached.
type verdict string

// The verdicts, as the other benchmark has them.
const (
	pass      = verdict(figures.Pass)
	miss      = verdict(figures.Miss)
	notTested = verdict(figures.NotTested)
)

// goal is one thing that Atoll has to reach: the median of a figure is at most the bound.
type goal struct {
	what  string
	bound float64
	unit  string
	get   func(*results) (figures.Spread, bool)
}

// judged is a goal and what was measured.
type judged struct {
	Goal    string         `json:"goal"`
	Bound   float64        `json:"at_most"`
	Unit    string         `json:"unit"`
	Got     figures.Spread `json:"got"`
	Verdict verdict        `json:"verdict"`
}

// goals are those of the types.
func goals(s *settings) []goal {
	var all []goal
	cpu := func(what string, bound float64, at row, contender string) {
		all = append(all, goal{what, bound, "µs", func(r *results) (figures.Spread, bool) {
			return r.spread(at, contender, sample.micros)
		}})
	}
	counted := func(what string, bound float64, unit, name string) {
		all = append(all, goal{what, bound, unit, func(r *results) (figures.Spread, bool) { return r.counted(name) }})
	}
	for _, contender := range []string{atollGrouped, atollSynced} {
		for _, batch := range s.batches {
			cpu(fmt.Sprintf("%s: CPU per add to the largest set, batches of %d", contender, batch), 100,
				row{workAdd, s.large, batch}, contender)
		}
	}
	for _, work := range []string{mergeAdds, mergeBulkAdds, mergePuts, mergeCounts} {
		cpu(work+" into the store: CPU per item (30 000 items/s)", 1e6/30_000.0, row{work, s.large, s.mergeBatch}, atollGrouped)
	}
	for _, work := range []string{mergeAdds, mergeBulkAdds, mergePuts, mergeCounts} {
		cpu(work+" in memory: CPU per item (1 000 000 items/s)", 1, row{work, s.mergeInto, s.mergeBatch}, atollMemory)
	}
	counted("CRDT metadata per register: time, dot, flags", 21, "B", keyMetadata+ofCRDT)
	counted("CRDT metadata per set element: dots", 8, "B", elementMetadata+ofCRDT)
	counted("the same, in sets of 10: dots, lengths, and a share of the header", 8, "B", smallMetadata+ofCRDT)
	counted("register with the structure of its key, too", 21, "B", keyMetadata+ofCRDT+andKeys)
	counted("register with its checksum, too", 21, "B", keyMetadata)
	counted("set element with the structure of its key and its checksum, too", 8, "B", elementMetadata)
	counted(runCounts, 30, "B", runCounts)
	counted(runCounters, 30, "B", runCounters)
	counted(runAdds, 40, "B", runAdds)
	counted(deltaCount, 30, "B", deltaCount)
	counted(deltaCount+withoutNames, 30, "B", deltaCount+withoutNames)
	counted(deltaAdd, 40, "B", deltaAdd)
	counted(deltaAdd+withoutNames, 40, "B", deltaAdd+withoutNames)
	counted(deltaBulk, 40, "B", deltaBulk)
	counted("clear of the largest set: time until it is answered", 1, "ms", clearMillis)
	return all
}

// judge compares with the goals.
func (r *results) judge(goals []goal) []judged {
	all := make([]judged, len(goals))
	for i, g := range goals {
		j := judged{Goal: g.what, Bound: g.bound, Unit: g.unit, Verdict: notTested}
		if got, ok := g.get(r); ok {
			j.Got, j.Verdict = got, miss
			if got.Median <= g.bound {
				j.Verdict = pass
			}
		}
		all[i] = j
	}
	return all
}

// compared is a ratio of processor time per operation.
type compared struct {
	row
	Contender string         `json:"contender"`
	Peer      string         `json:"peer"`
	PeerSize  int            `json:"peer_elements"`
	CPU       figures.Spread `json:"cpu_per_op"`
}

// peersOf compares everybody else with Atoll in the same row, where Atoll does the same: synced with
// synced, memory with memory.
func (r *results) peersOf() []compared {
	var all []compared
	for _, at := range r.rows() {
		names := r.contenders(at)
		for _, own := range []string{atollSynced, atollMemory} {
			for _, peer := range names {
				if ours(peer) {
					continue
				}
				if cpu, ok := r.ratio(measured{at, peer}, measured{at, own}); ok {
					all = append(all, compared{at, own, peer, at.Size, cpu})
				}
			}
		}
	}
	return all
}

// growth compares each contender's larger sets with its smallest in the same work.
func (r *results) growth() []compared {
	var all []compared
	rows := r.rows()
	for _, at := range rows {
		for _, name := range r.contenders(at) {
			least := at
			for _, o := range rows {
				if o.Work == at.Work && o.Batch == at.Batch && o.Size < least.Size && slices.Contains(r.contenders(o), name) {
					least = o
				}
			}
			if cpu, ok := r.ratio(measured{at, name}, measured{least, name}); ok && least != at {
				all = append(all, compared{at, name, name, least.Size, cpu})
			}
		}
	}
	return all
}
