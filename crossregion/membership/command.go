package membership

import (
	"github.com/atolldb/atoll/topology"
)

// Kind says what a command does.
type Kind uint8

// The kinds of commands. Their numbers are on disk.
const (
	// Found makes the first membership.
	Found Kind = 1
	// Add takes in a new region: it joins.
	Add Kind = 2
	// AckMember is a member's word that it waits for a joining region's actor.
	AckMember Kind = 3
	// Join ends a region's joining: it has a donor's state, and may write.
	Join Kind = 4
	// Drain has a region stop writing, and leave once everybody has what it wrote.
	Drain Kind = 5
	// Fence gives a region up.
	Fence Kind = 6
	// ReportVector is a member's word of what it has of a fenced actor's events.
	ReportVector Kind = 7
	// Close fixes an actor's cut.
	Close Kind = 8
	// Drained is a member's word that it is at a closed actor's cut.
	Drained Kind = 9
	// Remove says that a closed region is not expected back.
	Remove Kind = 10
	// Rejoin has a region come back under a new epoch: it joins.
	Rejoin Kind = 11
	// SelfFence is a region's word that others know more of it than it does.
	SelfFence Kind = 12
	// Declare records that regions were declared dead without a majority, and fences them.
	Declare Kind = 13
	// NameHeir decides who takes over the homes of a region that was given up, or has left.
	NameHeir Kind = 14

	lastKind = NameHeir
)

// String returns the kind's name.
func (k Kind) String() string {
	names := [...]string{"none", "found", "add", "ack", "join", "drain", "fence", "report", "close", "drained", "remove", "rejoin",
		"self-fence", "declare", "heir"}
	if int(k) < len(names) {
		return names[k]
	}
	return "unknown"
}

// FoundingRegion is a region of the first membership.
type FoundingRegion struct {
	ID            topology.RegionID
	Epoch         topology.Epoch
	Name, Address string
}

// Command is one command of the state machine. Each kind uses the fields that its constructor sets.
// Commands may be lost and come again: each names the epoch it is about, and done twice does nothing.
type Command struct {
	Kind   Kind
	Region topology.RegionID
	Epoch  topology.Epoch
	// Member is who confirms or reports; in a Join, the donor; in a NameHeir, the heir.
	Member topology.RegionID
	// Round is which round of a closing a report, a close or a drained is about. In a Join it is the
	// membership that the donor had taken over when its state was copied. In a Declare it is a number
	// drawn by chance that names it.
	Round         uint64
	Name, Address string
	Note          string
	// Dead are the regions that a Declare gives up.
	Dead RegionSet
	// Vector has one entry per partition.
	Vector []uint64

	// Of a Found only; Name is the deployment's then, and Round the number of its partitions.
	Founding []FoundingRegion
	Witness  topology.Witness
}

// FoundCommand returns the command that makes the first membership of a deployment, all of whose regions
// are active. addresses says where the regions' voters are reached.
func FoundCommand(c *topology.Cluster, addresses map[topology.RegionID]string) Command {
	found := Command{Kind: Found, Name: c.Name, Round: uint64(c.Partitions), Witness: c.Witness}
	for _, r := range c.Regions {
		found.Founding = append(found.Founding, FoundingRegion{ID: r.ID, Epoch: r.Epoch, Name: r.Name, Address: addresses[r.ID]})
	}
	return found
}

// AddCommand takes in a new region under an epoch.
func AddCommand(id topology.RegionID, e topology.Epoch, name, address string) Command {
	return Command{Kind: Add, Region: id, Epoch: e, Name: name, Address: address}
}

// AckCommand is a member's word that all of its partitions wait for a joining region's actor.
func AckCommand(member, id topology.RegionID, e topology.Epoch) Command {
	return Command{Kind: AckMember, Region: id, Epoch: e, Member: member}
}

// JoinCommand ends a region's joining. since is the least membership epoch that the donor's partitions
// had taken over when they were copied.
func JoinCommand(id topology.RegionID, e topology.Epoch, donor topology.RegionID, since uint64) Command {
	return Command{Kind: Join, Region: id, Epoch: e, Member: donor, Round: since}
}

// DrainCommand has a region leave in order.
func DrainCommand(id topology.RegionID, e topology.Epoch) Command {
	return Command{Kind: Drain, Region: id, Epoch: e}
}

// FenceCommand gives a region up, under the epoch that it has.
func FenceCommand(id topology.RegionID, e topology.Epoch, note string) Command {
	return Command{Kind: Fence, Region: id, Epoch: e, Note: note}
}

// ReportCommand is a member's word of what its partitions have of a fenced actor's events: they must have
// taken over the membership of the round, or a later one, before.
func ReportCommand(member, id topology.RegionID, e topology.Epoch, round uint64, vector []uint64) Command {
	return Command{Kind: ReportVector, Region: id, Epoch: e, Member: member, Round: round, Vector: vector}
}

// CloseCommand fixes an actor's cut once everybody has reported.
func CloseCommand(id topology.RegionID, e topology.Epoch, round uint64) Command {
	return Command{Kind: Close, Region: id, Epoch: e, Round: round}
}

// DrainedCommand is a member's word that it has a closed actor's events up to the cut.
func DrainedCommand(member, id topology.RegionID, e topology.Epoch, round uint64) Command {
	return Command{Kind: Drained, Region: id, Epoch: e, Member: member, Round: round}
}

// RemoveCommand says that a closed region is not expected back.
func RemoveCommand(id topology.RegionID, e topology.Epoch) Command {
	return Command{Kind: Remove, Region: id, Epoch: e}
}

// RejoinCommand has a region come back under a new epoch, which it has never had.
func RejoinCommand(id topology.RegionID, e topology.Epoch, address string) Command {
	return Command{Kind: Rejoin, Region: id, Epoch: e, Address: address}
}

// SelfFenceCommand is a region's word that a peer knows more of it than it does.
func SelfFenceCommand(id topology.RegionID, e topology.Epoch, peer topology.RegionID) Command {
	return Command{Kind: SelfFence, Region: id, Epoch: e, Member: peer}
}

// DeclareCommand records that regions were declared dead without a majority. nonce is drawn by chance.
func DeclareCommand(dead RegionSet, nonce uint64, note string) Command {
	return Command{Kind: Declare, Dead: dead, Round: nonce, Note: note}
}

// NameHeirCommand decides that a region takes over the homes that another one, which writes no more, had under an epoch.
func NameHeirCommand(id topology.RegionID, e topology.Epoch, heir topology.RegionID) Command {
	return Command{Kind: NameHeir, Region: id, Epoch: e, Member: heir}
}

// check returns why the command makes no sense whatever the state; "" if it may.
func (c *Command) check() string {
	needsRegion := c.Kind != Found && c.Kind != Declare
	switch {
	case c.Kind == 0 || c.Kind > lastKind:
		return "there is no such command"
	case needsRegion && (c.Region == 0 || c.Region > topology.MaxRegionID):
		return "region ids are 1 to 63"
	case c.Epoch > topology.MaxEpoch:
		return "the epoch is too large"
	case c.Member > topology.MaxRegionID, c.Dead&1 != 0:
		return "there is no such member"
	case c.Kind == Declare && (c.Dead == 0 || c.Round == 0):
		return "nobody is declared dead, or the declaration has no number"
	case !c.bounded():
		return "a name, an address, a note or a list is too long"
	}
	return ""
}

func (c *Command) bounded() bool {
	return len(c.Name) <= maxClusterBytes && len(c.Address) <= maxAddressBytes && len(c.Note) <= maxNoteBytes &&
		len(c.Witness.Name) <= maxClusterBytes && len(c.Witness.Address) <= maxAddressBytes &&
		len(c.Vector) <= topology.MaxPartitions && len(c.Founding) <= MaxLiving
}
