package crdt

import "math"

// Count returns the estimate of the number of distinct elements, to the nearest integer. It is exact
// for an empty HLL, and nearly so for a few hundred elements.
//
// It is the improved raw estimator, which has no range with a bias to correct and needs no tables.
// Products are converted to float64 before they are added, which keeps the compiler from fusing the
// two: every machine must compute the same count from the same state.
//
// Ref: Ertl, "New cardinality estimation algorithms for HyperLogLog sketches", 2017,
// arXiv:1702.01284, the improved raw estimator.
func (h HLL) Count() uint64 {
	if h.Empty() {
		return 0
	}
	var all hllMaxima
	for _, l := range h.layers {
		all.raise(l.registers)
	}
	var having [hllMaxValue + 1]float64 // how many registers have a value
	for _, value := range all {
		having[value]++
	}
	return estimate(having)
}

func estimate(having [hllMaxValue + 1]float64) uint64 {
	const (
		size     = float64(hllSize)
		alphaInf = 1 / (2 * math.Ln2)
	)
	z := size * estimateTau(1-having[hllMaxValue]/size)
	for value := hllMaxValue - 1; value > 0; value-- {
		z = (z + having[value]) / 2
	}
	z += float64(size * estimateSigma(having[0]/size))
	count := math.Round(alphaInf * size * size / z)
	if count >= 1<<64 { // also when z is 0, because every register has the largest value
		return math.MaxUint64
	}
	return uint64(count)
}

// estimateSigma returns x + Σ x^(2^k) 2^(k-1) over k ≥ 1, for 0 ≤ x < 1: the share of the registers
// that are 0.
func estimateSigma(x float64) float64 {
	sum := x
	for y := 1.0; ; y *= 2 {
		x *= x
		before := sum
		sum += float64(x * y)
		if sum == before {
			return sum
		}
	}
}

// estimateTau returns (1 - x - Σ (1 - x^(2^-k))² 2^-k over k ≥ 1) / 3, for 0 ≤ x ≤ 1: the share of the
// registers that do not have the largest value. It is 0 at both ends.
func estimateTau(x float64) float64 {
	if x == 0 {
		return 0
	}
	sum := 1 - x
	for y := 0.5; ; y /= 2 {
		x = math.Sqrt(x)
		before := sum
		sum -= float64(float64((1-x)*(1-x)) * y)
		if sum == before {
			return sum / 3
		}
	}
}
