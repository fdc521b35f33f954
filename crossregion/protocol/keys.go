package protocol

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"sync"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/topology"
)

// Derive returns the key for a purpose: the same purpose gives the same key in every region of a deployment, another
// purpose one that says nothing about it.
type Derive func(purpose string) [32]byte

// Keys make and check what authenticates frames: every region has, in each of its epochs, a key of its own. It is
// safe for concurrent use.
//
// Whoever has the secret that keys are derived from can speak for every region; so can who has a region's key, for
// that region in that epoch. What has neither can make no frame that is taken, and none of the frames that it has
// seen can be passed off as another region's, epoch's, deployment's or partition's.
type Keys struct {
	cluster string
	tag     uint32
	self    crdt.Actor
	actors  map[topology.RegionID]crdt.Actor
	derive  Derive
	mu      struct {
		sync.Mutex
		keys map[crdt.Actor][32]byte
	}
}

// NewKeys returns the keys of a deployment's regions, each in its present epoch, for the region self.
func NewKeys(cluster string, self crdt.Actor, others []crdt.Actor, derive Derive) *Keys {
	k := &Keys{
		cluster: cluster, tag: crc32.Checksum([]byte(cluster), castagnoli), self: self, derive: derive,
		actors: make(map[topology.RegionID]crdt.Actor, len(others)+1),
	}
	k.mu.keys = make(map[crdt.Actor][32]byte, len(others)+1)
	for _, actor := range append([]crdt.Actor{self}, others...) {
		region, _ := topology.ActorRegion(actor)
		k.actors[region] = actor
	}
	return k
}

// Actor returns the actor of a region's present epoch; 0 if the region is not known.
func (k *Keys) Actor(region topology.RegionID) crdt.Actor { return k.actors[region] }

func (k *Keys) region() topology.RegionID {
	region, _ := topology.ActorRegion(k.self)
	return region
}

// key returns the key of a known actor, so that no more are kept than there are regions.
func (k *Keys) key(actor crdt.Actor) [32]byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	key, ok := k.mu.keys[actor]
	if !ok {
		region, epoch := topology.ActorRegion(actor)
		key = k.derive(fmt.Sprintf("crossregion frame v%d\x00%s\x00region %d epoch %d", frameVersion, k.cluster, region, epoch))
		k.mu.keys[actor] = key
	}
	return key
}

// admit returns why frames of the actor are not taken, if they are not.
func (k *Keys) admit(claimed, wanted crdt.Actor) error {
	region, epoch := topology.ActorRegion(claimed)
	known, ok := k.actors[region]
	switch {
	case !ok:
		return fmt.Errorf("frame %w: region %d is not known", ErrOtherActor, region)
	case claimed != known:
		if _, now := topology.ActorRegion(known); epoch < now {
			return fmt.Errorf("frame %w: region %d in epoch %d, which is in %d", ErrOldEpoch, region, epoch, now)
		}
		return fmt.Errorf("frame %w: region %d in epoch %d", ErrOtherActor, region, epoch)
	case wanted != 0 && claimed != wanted:
		return fmt.Errorf("frame %w: region %d", ErrOtherActor, region)
	}
	return nil
}

// Scope is what a frame is for beyond what it says itself. Both ends know it, so it is authenticated without being
// sent.
type Scope struct {
	// To is the region that it is meant for; 0 if for all.
	To topology.RegionID
	// Nonce is the request's that it answers; 0 if none.
	Nonce uint64
}

const macBytes = 16

// mac returns what authenticates a frame: HMAC-SHA256, the first half of it, over its kind and claims, its scope
// and its message.
func (k *Keys) mac(actor crdt.Actor, scope Scope, frame []byte) [macBytes]byte {
	key := k.key(actor)
	h := hmac.New(sha256.New, key[:])
	var context [12]byte
	binary.BigEndian.PutUint32(context[:], uint32(scope.To))
	binary.BigEndian.PutUint64(context[4:], scope.Nonce)
	h.Write(frame[2:4])
	h.Write(frame[offsetActor:offsetMAC])
	h.Write(context[:])
	h.Write(frame[frameHeader:])
	var sum [sha256.Size]byte
	return [macBytes]byte(h.Sum(sum[:0]))
}
