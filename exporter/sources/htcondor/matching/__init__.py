"""Why HTCondor's idle jobs wait: those that are alike are judged together, against all machines.

    schedds: groups of jobs   \\
                                a process (`__main__`): clauses, pool, judge  ->  verdicts  ->  words  ->  idle jobs
    collector: machines' ads  /

It is what `condor_q -better-analyze` finds for one job, asked for all of them once an interval. A partitionable slot is
judged twice: with all that it has, which tells whether it could ever hold a job, and with what is left of it now.
"""
