package crdt

// Actor names one incarnation of one region, for ever: no two of a deployment share an actor.
type Actor uint32
