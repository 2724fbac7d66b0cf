"""Seeded bugs: each takes one sentence of ENFORCEMENT.md out of the functions, in tests only."""

from __future__ import annotations

import msgspec


class Bug(msgspec.Struct, frozen=True):
    """What the functions forget, and the change of their text that makes them forget it."""

    sentence: str
    old: str
    new: str = ""


BUGS = {
    "emitter_not_listed": Bug(
        "hold: the emitter is on the list",
        "redis.call('RENAME', noted, prefix .. ':left:' .. emitter)",
        "return",
    ),
    "emitter_not_noted": Bug(
        "of each the organizations in which it may (the SDK notes one before its first hold there)",
        "  return not_listed(prefix, emitter) or {'emitter', 'unnoted'}\n",
        "  return not_listed(prefix, emitter)\n",
    ),
    "retired_isn_t_final": Bug(
        "retired is final",
        "redis.call('HSETNX', prefix .. ':emitters', emitter, 'started') == 1",
        "redis.call('HSET', prefix .. ':emitters', emitter, 'started') == 1",
    ),
    "a_new_epoch_keeps_the_list": Bug(
        "a new epoch's list comes from SQL",
        "redis.call('DEL', keys[1], prefix .. ':emitters', prefix .. ':seen')",
        "redis.call('DEL', keys[1], prefix .. ':seen')",
    ),
    "held_isn_t_counted": Bug(
        "each with what is spent and held",
        "return amount <= cap - spent - held",
        "return amount <= cap - spent",
    ),
    "spent_isn_t_counted": Bug(
        "each with what is spent and held",
        "return amount <= cap - spent - held",
        "return amount <= cap - held",
    ),
    "a_cap_may_be_exceeded_by_one": Bug(
        "never takes spend above a cap",
        "return amount <= cap",
        "return amount - 1 <= cap",
    ),
    "only_the_first_level_binds": Bug(
        "member cap, organization cap: all or nothing",
        "elseif not has_room(amount, cap, spent, held) then",
        "elseif not found and not has_room(amount, cap, spent, held) then",
    ),
    "credits_aren_t_checked": Bug(
        "or the prepaid credits in force at the gate",
        "return org.terms.funding == 'arrears' and math.huge or org[PURCHASED]",
        "return math.huge",
    ),
    "no_member_is_checked": Bug(
        "seat, surface: an unknown member is refused",
        "if not is_member(org, request) then",
        "if false then",
    ),
    "the_default_cap_is_forgotten": Bug(
        "per limit and period what is spent, and what is capped",
        "return cap == NO_CAP and default or cap,",
        "return cap == NO_CAP and math.huge or cap,",
    ),
    "a_hold_moves_to_the_period_of_now": Bug(
        "extend(hold_id, amount) in the hold's own period",
        "local no = refusal(call, org, open.request, change, its)",
        "local no = refusal(call, org, open.request, change, now_in)",
    ),
    "an_old_hold_is_extended": Bug(
        "extend of a hold older than the previous period is refused",
        "if not its or its < now_in - 1 then",
        "if not its then",
    ),
    "an_extension_isn_t_checked": Bug(
        "extend checks what hold checks",
        "local no = refusal(call, org, open.request, change, its)",
        "local no = nil",
    ),
    "apply_installs_at_any_offset": Bug(
        "compare and set: Redis at `previous` moves to `offset`",
        "if org[OFFSET] == fold.previous and not",
        "if not",
    ),
    "apply_goes_back": Bug(
        "at or past `offset` it ignores the call",
        "    if org[OFFSET] >= fold.offset then return {'ignored', org[OFFSET]} end\n",
    ),
    "a_gap_leaves_it_known": Bug(
        "anything else makes the organization unknown",
        "  become_unknown(call, org, fold.position)\n",
        "  if not org then become_unknown(call, org, fold.position) end\n",
    ),
    "settled_holds_stay": Bug(
        "installing totals and deleting the settled holds in the same step",
        "local fields, marks = ids_of_ours(call, fold.settled)",
        "local fields, marks = {}, {}",
    ),
    "apply_leaves_no_floor": Bug(
        "An `apply` for an absent organization leaves just that floor",
        "  become_unknown(call, org, fold.position)\n",
        "  if org then become_unknown(call, org, fold.position) end\n",
    ),
    "apply_makes_it_known": Bug(
        "It never creates one",
        "  if known_period(call, org) then\n    if org[OFFSET] >= fold.offset",
        "  if org then\n    if org[OFFSET] >= fold.offset",
    ),
    "the_floor_forgets_the_call": Bug(
        "its floor is raised to its own position and that of the call",
        "math.max(position, org[POSITION], org[FLOOR])",
        "math.max(org[POSITION], org[FLOOR])",
    ),
    "the_floor_forgets_itself": Bug(
        "its floor is raised to its own position and that of the call",
        "math.max(position, org[POSITION], org[FLOOR])",
        "math.max(position, org[FLOOR])",
    ),
    "unknown_drops_the_holds": Bug(
        "Unknown: the organization keeps its holds and marks",
        "  org[FLOOR] = math.max(position,",
        "  redis.call('DEL', call.state)\n  org[FLOOR] = math.max(position,",
    ),
    "an_old_snapshot_is_taken": Bug(
        "refused when the snapshot's position is below the floor",
        "  if org and snapshot.position < org[FLOOR] then return {'below_floor', org[FLOOR]} end\n",
    ),
    "an_early_snapshot_is_taken": Bug(
        "or when it was read before SQL's epoch row was open",
        "  if snapshot.phase ~= 'open' then return {'not_open'} end\n",
    ),
    "a_known_one_is_warmed": Bug(
        "A known organization it leaves alone",
        " or needs_no_warming(call, org)\n  if no then return no end\n  if org then become",
        "\n  if no then return no end\n  if org then become",
    ),
    "warm_keeps_settled_holds": Bug(
        "keeps the open holds that the snapshot shows neither as settled",
        "or snapshot.settled[id] or is_retired then",
        "or is_retired then",
    ),
    "warm_keeps_holds_of_the_retired": Bug(
        "nor as of a retired emitter",
        "or snapshot.settled[id] or is_retired then",
        "or snapshot.settled[id] then",
    ),
    "warm_keeps_holds_of_older_epochs": Bug(
        "It keeps the open holds of this epoch",
        "if hold.epoch ~= call.epoch or snapshot.settled[id]",
        "if snapshot.settled[id]",
    ),
    "warm_drops_open_holds": Bug(
        "It keeps the open holds",
        "  add_held(org, kept, 1, record_of)\n",
    ),
    "warm_takes_unexamined_holds": Bug(
        "which of the holds that Redis has are settled",
        "  if unexamined > 0 then return {'unexamined', unexamined} end\n",
    ),
    "warm_leaves_the_retired_listed": Bug(
        "strikes the snapshot's retired emitters off the list",
        "    retire(call.prefix, emitter)\n",
    ),
    "reasserted_at_any_time": Bug(
        "reassert only while recovering",
        "    or not_recovering(primary) or not_noted",
        "    or not_noted",
    ),
    "an_ended_hold_is_reasserted": Bug(
        "a settled, released or foreign id is refused",
        "    if not has_ended(call, org, one) then\n",
        "    if true then\n",
    ),
    "an_older_epoch_is_heard": Bug(
        "an older one than the organization's is refused",
        "  if call.epoch < org[EPOCH] then return {'stale', org[EPOCH]} end\n",
    ),
    "a_newer_epoch_changes_nothing": Bug(
        "a newer one makes the organization unknown",
        "  if call.epoch > org[EPOCH] then become_unknown(call, org, 0) end\n",
    ),
    "an_id_is_used_twice": Bug(
        "a settled, released or foreign id is refused",
        "  if redis.call('ZSCORE', call.marks, id) then return {'hold_id', 'used'} end\n",
    ),
    "an_id_means_two_requests": Bug(
        "the same id with others it is an error",
        "    if hold.request.text ~= request.text then return {'hold_id', 'other_request'} end\n",
    ),
    "a_foreign_id_is_taken": Bug(
        "a settled, released or foreign id is refused",
        "  if its_organization ~= call.organization or its_emitter ~= emitter then",
        "  if false then",
    ),
    "a_retry_holds_twice": Bug(
        "the same id with the same arguments gives the granted answer again",
        "    return granted(call, primary, hold.granted_at, hold.held)\n  end\n  local no = out_of_age",
        "  end\n  local no = out_of_age",
    ),
    "ids_of_any_age": Bug(
        "Marks of used ids may go when ids of their age are refused",
        "  if no then return no end\n  if redis.call('ZSCORE'",
        "  if redis.call('ZSCORE'",
    ),
    "marks_go_and_the_clock_goes_back": Bug(
        "Marks of used ids may go when ids of their age are refused",
        "  org[OLDEST] = oldest\n",
    ),
    "recovering_grants": Bug(
        "writes the new key as recovering; organizations are warmed when it is open",
        "    or not_open(primary)\n    or not_leased",
        "    or not_leased",
    ),
    "the_lease_never_ends": Bug(
        "an isolated old primary stops granting",
        "    or not_leased(primary, call.now)\n",
    ),
    "a_late_renewal_counts_anew": Bug(
        "the lease counts from that reading",
        "asked_at + length)",
        "clock() + length)",
    ),
    "opened_before_all_have_answered": Bug(
        "when all have answered or their retirement is logged",
        "  if #waiting > 1 then return waiting end\n",
    ),
    "another_incarnation_is_renewed": Bug(
        "whether run id and replication id are those of the epoch key",
        "if not is_about(keys[1], run_id, replication_id) then",
        "if false then",
    ),
    "the_period_never_rolls_over": Bug(
        "Roll-over happens inside the functions from the stored bounds and Redis' clock",
        "  if period == LAST_PERIOD then ask_to_warm(call) end\n  no = refusal",
        "  period = 2\n  no = refusal",
    ),
    "known_past_the_end": Bug(
        "past the end of the next period the organization is unknown",
        "org[KNOWN] == 1 and period_at(org.terms, call.now) or nil\n",
        "org[KNOWN] == 1 and (period_at(org.terms, call.now) or 3) or nil\n",
    ),
    "every_total_is_of_now": Bug(
        "`apply` names the period of each total",
        "record[spent_at(before, period)] = total.micros",
        "record[spent_at(before, 2)] = total.micros",
    ),
    "the_living_aren_t_seen": Bug(
        "One not seen for `retire_after_s` is retired automatically",
        "redis.call('ZADD', prefix .. ':seen', 'XX', digits(clock()), emitter)",
        "return answer",
    ),
    "the_listed_were_never_seen": Bug(
        "One not seen for `retire_after_s` is retired automatically",
        "    if is_new then redis.call('ZADD', prefix .. ':seen', now, emitter) end\n",
    ),
    "the_retired_are_seen": Bug(
        "retired is final",
        "  redis.call('ZREM', prefix .. ':seen', emitter)\n",
    ),
    "anybody_is_seen": Bug(
        "of an emitter that isn't listed nobody would know what it has",
        "':seen', 'XX', digits",
        "':seen', digits",
    ),
    "touched_at_another_server": Bug(
        "an SDK that can't revalidate within `lease_s` on its connection answers unavailable",
        "  if not is_about(keys[1], incarnation()) then return untrusted(primary, 'incarnation') end\n",
    ),
    "an_older_publication_is_taken": Bug(
        "rate cards reach product services in the order of their versions",
        "  if version < current then return {'newer', current} end\n",
    ),
    "a_publication_outlives_its_epoch": Bug(
        "an epoch is one trusted incarnation of Redis; what it has comes from SQL",
        "  for _, kind in ipairs(KINDS) do redis.call('DEL', published_key(prefix, kind)) end\n",
    ),
    "nobody_is_woken": Bug(
        "organizations are warmed as they are asked for",
        "redis.call('RPUSH', bell, 'asked')",
        "local _ = bell",
    ),
    "two_versions_decide": Bug(
        "one versioned library",
        "  if primary.library ~= LIBRARY then return untrusted(primary, 'superseded') end\n",
    ),
    "beyond_2_53": Bug(
        "integers within 2^53",
        "  if #text == #EXACT and text > EXACT then return nil end\n",
    ),
}
