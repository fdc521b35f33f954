package main

import (
	"encoding/binary"
	"fmt"

	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/topology"
)

const (
	namespace = "default"
	// elementBytes is the size of an element, keyBytes that of a key.
	elementBytes = 16
	keyBytes     = 16
	// valueBytes is the size of a register's value.
	valueBytes = 64
	// fresh is the number of the first element that no set begins with.
	fresh = 1 << 40
)

// The actors of two regions, of the size that they have in a deployment.
var (
	local  = topology.Actor(1, 1)
	remote = topology.Actor(2, 1)
)

// noon is when everything happens: what is measured does not depend on the clock.
var noon = hlc.At(1_790_000_000_000, 0)

// element returns the nth element. Neighbours are far apart, so adds are scattered over the whole set.
func element(n uint64) []byte {
	b := make([]byte, 0, elementBytes)
	b = binary.BigEndian.AppendUint64(b, mix(n))
	return binary.BigEndian.AppendUint64(b, mix(n+1<<50))
}

// mix is the finalizer of SplitMix64, a bijection.
//
// Ref: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
func mix(n uint64) uint64 {
	n += 0x9e3779b97f4a7c15
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}

// elements returns count elements from the nth on.
func elements(n uint64, count int) [][]byte {
	all := make([][]byte, count)
	for i := range all {
		all[i] = element(n + uint64(i))
	}
	return all
}

// text is an element for those who want it printable.
func text(e []byte) string { return fmt.Sprintf("%x", e[:elementBytes/2]) }

// key returns the nth key, of keyBytes bytes.
func key(n int) string { return fmt.Sprintf("%016x", mix(uint64(n))) }

// setKey returns the key of the set that begins with size elements.
func setKey(size int) string { return fmt.Sprintf("set-%012d", size) }
