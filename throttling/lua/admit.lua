-- Ask for permits for steps that want to start: all limits of a step, or none and a place at the first in the way.
--
-- call.define   {name: definition}
-- call.groups   [[set, tenant, weight, lane, run, steps], …]; a step is its id, or [id, head start in µs, lease]: the
--               one under which this caller held it until now, so that it keeps its old place
-- call.take, call.lanes, call.lease   how many of these lanes may start here at once, under this lease (else they are
--               reserved, and started by `confirm`)
-- Result        …, granted, taken, parked: ids; granted and taken may contain others' steps whose turn it was
define(call.define)
admit_groups(call.groups)
return finish(granted, taken, parked)
