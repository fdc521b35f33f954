package region

// Waiting returns how many commands and linearizable readers wait for the next entry and barrier.
func (p *Partition) Waiting() (commands, readers int) {
	p.batcher.mu.Lock()
	commands = len(p.batcher.mu.queue)
	p.batcher.mu.Unlock()
	p.barrier.mu.Lock()
	readers = p.barrier.mu.next.readers
	p.barrier.mu.Unlock()
	return commands, readers
}
