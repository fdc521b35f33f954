package replica

// KV is the ordered storage that a replica lives in: one transaction's view of one partition.
//
// Keys sort bytewise. Returned and visited slices are valid until the next write, or until visit
// returns, and must not be changed. An implementation is used by one goroutine at a time. Errors
// mean that the storage failed or is corrupt.
type KV interface {
	// Get returns key's value, and whether there is one.
	Get(key []byte) (value []byte, ok bool, err error)
	// Put sets key's value. It keeps neither slice.
	Put(key, value []byte) error
	// Delete removes key; removing what is absent is no error.
	Delete(key []byte) error
	// Scan calls visit for the keys in [start, end) in order until it returns more=false or an
	// error, which Scan returns. A nil end means no end. visit must not write.
	Scan(start, end []byte, visit func(key, value []byte) (more bool, err error)) error
}
