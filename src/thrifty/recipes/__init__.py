"""Papers as recipes: functions that return the full configuration of a run."""
