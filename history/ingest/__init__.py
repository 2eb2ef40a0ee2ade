"""From observations to rows: merged, stored as a whole, and nothing lost beside a bad one."""
