//! Redis goes away, instances die: nothing is counted twice, nothing is lost.
