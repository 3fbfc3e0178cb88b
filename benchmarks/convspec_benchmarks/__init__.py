"""How fast convspec is beside the frameworks' own calls: workloads, baselines, timing, reports."""
