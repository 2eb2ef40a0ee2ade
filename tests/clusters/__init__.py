"""Real Slurm and HTCondor on one machine, for tests: `python -m tests.clusters slurm up`, `… htcondor down`.

Everything is Debian's own packages in a debootstrap chroot, daemons on loopback, no systemd; needs root.
"""
