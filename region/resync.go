package region

import (
	"context"
	"errors"
	"fmt"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
)

// refusesResync reports whether an error is a replica's refusal of a step of a resync.
func refusesResync(err error) bool {
	for _, refusal := range []error{
		replica.ErrResyncing, replica.ErrNoResync, replica.ErrResyncNotNeeded, replica.ErrTooManyResyncs,
		replica.ErrLostEvents, replica.ErrRangeDiffers,
	} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}

// admitsState returns why the partition may not take over a state, or nil. Of actors that are being closed it may have
// more if it has one of them in part: then it does not tell how far it has any (partitions.Led), and can only once a transfer is
// at its end. What it may have told before of another is no less true then: the donor has told more, or will, and if it is
// given up everybody is asked again.
func (a *application) admitsState(donor crdt.VersionVector) error {
	have := a.replica.Vector()
	inPart := a.state.facts.InPart(have, a.replica.Ahead())
	for _, upTo := range donor.Entries() {
		refused := a.state.facts.Admits(upTo, have.Get(upTo.Actor))
		if refused != nil && !(inPart && errors.Is(refused, ErrClosing)) {
			return refused
		}
	}
	return nil
}

// resync runs one step.
func (a *application) resync(now hlc.Time, c *logv1.ResyncCommand) (result, error) {
	var err error
	switch step := c.GetStep().(type) {
	case *logv1.ResyncCommand_Begin:
		donor, bad := replica.DecodeDonor(step.Begin)
		if bad != nil {
			return result{err: fmt.Errorf("%w: %w", ErrBadCommand, bad)}, nil
		}
		if refused := a.admitsState(donor.Vector); refused != nil {
			return result{err: refused}, nil
		}
		err = a.replica.BeginResync(c.GetId(), donor)
	case *logv1.ResyncCommand_Chunk:
		return a.joinChunk(c.GetId(), step.Chunk)
	case *logv1.ResyncCommand_Writes:
		return a.takeOverWrites(now, c.GetId(), step.Writes.GetRecords())
	case *logv1.ResyncCommand_End:
		err = a.replica.EndResync(c.GetId())
	case *logv1.ResyncCommand_Abandon:
		err = a.replica.AbandonResync(c.GetId())
	default:
		return result{err: ErrBadCommand}, nil
	}
	if err != nil {
		return refusal(err)
	}
	return result{}, nil
}

// joinChunk joins a chunk, and tells watchers what may have changed.
func (a *application) joinChunk(id uint64, data []byte) (result, error) {
	chunk, err := replica.DecodeChunk(data)
	if err != nil {
		return result{err: fmt.Errorf("%w: %w", ErrBadCommand, err)}, nil
	}
	joined, err := a.replica.JoinChunk(id, chunk)
	if err != nil {
		return refusal(err)
	}
	for _, n := range joined.Changed {
		a.changed = append(a.changed, change{
			Change: Change{Namespace: n.Namespace, Key: n.Key, Type: n.Type, Cause: CauseRepaired}, index: a.entryIndex,
		})
	}
	return result{cursor: joined.Cursor}, nil
}

// BeginResync begins to take over the state of another region's replica, which donor describes; see
// Partition.OpenExport there. id is a random number that names the resync, not 0; to begin one again that is under way
// does nothing. Another one is given up. View tells how far it is.
//
// Errors, of all steps, after which nothing was done: those of Merge but for gaps, the donor's events being judged as if they were
// merged, and replica's ErrResyncNotNeeded,
// ErrTooManyResyncs, ErrLostEvents, ErrNoResync, ErrRangeDiffers. After ErrOutcomeUnknown, ask View and go on from
// there: every step may be repeated.
func (p *Partition) BeginResync(ctx context.Context, id uint64, donor []byte) error {
	command, err := p.beginResyncCommand(id, donor)
	if err == nil {
		_, err = p.proposeResync(ctx, command)
	}
	return err
}

func (p *Partition) beginResyncCommand(id uint64, donor []byte) (*logv1.ResyncCommand, error) {
	d, err := replica.DecodeDonor(donor)
	if err != nil {
		return nil, err
	}
	for _, at := range d.Times {
		if ahead := at.Wall().Sub(p.wall()); ahead > p.clockAhead {
			return nil, &ClockAheadError{Ahead: ahead}
		}
	}
	return &logv1.ResyncCommand{Id: id, Step: &logv1.ResyncCommand_Begin{Begin: donor}}, nil
}

// ResyncChunk joins the next chunk, and returns where the one after it begins: that may be inside the chunk, which
// is then to be given again.
func (p *Partition) ResyncChunk(ctx context.Context, id uint64, chunk []byte) (replica.Position, error) {
	r, err := p.proposeResync(ctx, &logv1.ResyncCommand{Id: id, Step: &logv1.ResyncCommand_Chunk{Chunk: chunk}})
	return r.cursor, err
}

// EndResync ends the resync, whose chunks are all joined: from now on the partition includes what the donor did.
func (p *Partition) EndResync(ctx context.Context, id uint64) error {
	_, err := p.proposeResync(ctx, &logv1.ResyncCommand{Id: id, Step: &logv1.ResyncCommand_End{End: true}})
	return err
}

// AbandonResync gives the resync up. What was joined stays, and another one can begin, from any donor.
func (p *Partition) AbandonResync(ctx context.Context, id uint64) error {
	_, err := p.proposeResync(ctx, &logv1.ResyncCommand{Id: id, Step: &logv1.ResyncCommand_Abandon{Abandon: true}})
	return err
}

func (p *Partition) proposeResync(ctx context.Context, c *logv1.ResyncCommand) (result, error) {
	if err := p.leading(); err != nil {
		return result{}, err
	}
	if p.diskFull() {
		return result{}, ErrDiskFull
	}
	return p.batcher.do(ctx, &logv1.Command{Command: &logv1.Command_Resync{Resync: c}})
}

// Differing returns this replica's fingerprints of those ranges in which it differs from another one, be it because
// it has not seen the same events. So a receiver knows what it need not be sent.
func (p *Partition) Differing(ranges []replica.RangeFingerprint) (differ []replica.RangeFingerprint, err error) {
	err = p.machine.Read(func(r *replica.Replica) error {
		differ, err = r.Differing(ranges)
		return err
	})
	return differ, err
}
