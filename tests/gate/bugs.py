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
        "    or not_leased(primary, call.now)\n    or not_listed(call.prefix, emitter)\n",
        "    or not_leased(primary, call.now)\n",
    ),
    "emitter_not_noted": Bug(
        "of each the organizations in which it may (the SDK notes one before its first hold there)",
        "    or not_noted(call.prefix, emitter, call.organization)\nend",
        "end",
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
        "tonumber(row.cap) - row.spent - row.held",
        "tonumber(row.cap) - row.spent",
    ),
    "spent_isn_t_counted": Bug(
        "each with what is spent and held",
        "tonumber(row.cap) - row.spent - row.held",
        "tonumber(row.cap) - row.held",
    ),
    "a_cap_may_be_exceeded_by_one": Bug(
        "never takes spend above a cap",
        "or amount <= tonumber(row.cap)",
        "or amount - 1 <= tonumber(row.cap)",
    ),
    "only_the_first_level_binds": Bug(
        "member cap, organization cap: all or nothing",
        "elseif not has_room(row, amount) then",
        "elseif #answer == 3 and not has_room(row, amount) then",
    ),
    "credits_aren_t_checked": Bug(
        "or the prepaid credits in force at the gate",
        "cap = org.funding == 'arrears' and 'unlimited' or found[2] or '0'",
        "cap = 'unlimited'",
    ),
    "no_member_is_checked": Bug(
        "seat, surface: an unknown member is refused",
        "if not is_member then",
        "if false then",
    ),
    "the_default_cap_is_forgotten": Bug(
        "per limit and period what is spent, and what is capped",
        "cap = found[at + 1] or found[at + 2] or '0'",
        "cap = found[at + 1] or 'unlimited'",
    ),
    "a_hold_moves_to_the_period_of_now": Bug(
        "extend(hold_id, amount) in the hold's own period",
        "local no = refusal(call, org, open.request, amount - open.held, its)",
        "local no = refusal(call, org, open.request, amount - open.held, now_in)",
    ),
    "an_old_hold_is_extended": Bug(
        "extend of a hold older than the previous period is refused",
        "if not its or its < now_in - 1 then",
        "if not its then",
    ),
    "an_extension_isn_t_checked": Bug(
        "extend checks what hold checks",
        "local no = refusal(call, org, open.request, amount - open.held, its)",
        "local no = nil",
    ),
    "apply_installs_at_any_offset": Bug(
        "compare and set: Redis at `previous` moves to `offset`",
        "if org.offset == fold.previous and not",
        "if not",
    ),
    "apply_goes_back": Bug(
        "at or past `offset` it ignores the call",
        "    if org.offset >= fold.offset then return {'ignored', org.offset} end\n",
    ),
    "a_gap_leaves_it_known": Bug(
        "anything else makes the organization unknown",
        "  become_unknown(call, org, fold.position)\n",
        "  if not org then become_unknown(call, org, fold.position) end\n",
    ),
    "settled_holds_stay": Bug(
        "installing totals and deleting the settled holds in the same step",
        "  settle(call, org, fold.settled)\n",
    ),
    "apply_leaves_no_floor": Bug(
        "An `apply` for an absent organization leaves just that floor",
        "  become_unknown(call, org, fold.position)\n",
        "  if org then become_unknown(call, org, fold.position) end\n",
    ),
    "apply_makes_it_known": Bug(
        "It never creates one",
        "  if org and org.known then\n    if org.offset >= fold.offset",
        "  if org then\n    if org.offset >= fold.offset",
    ),
    "the_floor_forgets_the_call": Bug(
        "its floor is raised to its own position and that of the call",
        "math.max(position, org and org.position or 0, org and org.floor or 0)",
        "math.max(org and org.position or 0, org and org.floor or 0)",
    ),
    "the_floor_forgets_itself": Bug(
        "its floor is raised to its own position and that of the call",
        "math.max(position, org and org.position or 0, org and org.floor or 0)",
        "math.max(position, org and org.floor or 0)",
    ),
    "unknown_drops_the_holds": Bug(
        "Unknown: the organization keeps its holds and marks",
        "  local floor = math.max(position,",
        "  redis.call('DEL', call.holds)\n  local floor = math.max(position,",
    ),
    "an_old_snapshot_is_taken": Bug(
        "refused when the snapshot's position is below the floor",
        "  if org and snapshot.position < org.floor then return {'below_floor', org.floor} end\n",
    ),
    "an_early_snapshot_is_taken": Bug(
        "or when it was read before SQL's epoch row was open",
        "  if snapshot.phase ~= 'open' then return {'not_open'} end\n",
    ),
    "a_known_one_is_warmed": Bug(
        "A known organization it leaves alone",
        " or known_already(call, org)\n  if no then return no end\n  if org then become",
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
        "  for _, hold in ipairs(kept) do add_held(call, snapshot, hold, hold.held) end\n",
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
        "    or not_recovering(primary) or not_listed",
        "    or not_listed",
    ),
    "an_ended_hold_is_reasserted": Bug(
        "a settled, released or foreign id is refused",
        "    if not has_ended(call, org, one) then\n",
        "    if true then\n",
    ),
    "an_older_epoch_is_heard": Bug(
        "an older one than the organization's is refused",
        "  if call.epoch < org.epoch then return {'stale', org.epoch} end\n",
    ),
    "a_newer_epoch_changes_nothing": Bug(
        "a newer one makes the organization unknown",
        "  if call.epoch > org.epoch then become_unknown(call, org, 0) end\n",
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
        "  if parsed.organization ~= call.organization or parsed.emitter ~= emitter then\n",
        "  if false then\n",
    ),
    "a_retry_holds_twice": Bug(
        "the same id with the same arguments gives the granted answer again",
        "    return granted(call, primary, hold)\n  end\n  local no = out_of_age",
        "  end\n  local no = out_of_age",
    ),
    "ids_of_any_age": Bug(
        "Marks of used ids may go when ids of their age are refused",
        "  if no then return no end\n  if redis.call('ZSCORE'",
        "  if redis.call('ZSCORE'",
    ),
    "marks_go_and_the_clock_goes_back": Bug(
        "Marks of used ids may go when ids of their age are refused",
        "  redis.call('HSET', call.state, 'oldest', digits(oldest))\n",
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
        "if found[1] ~= run_id or found[2] ~= replication_id then",
        "if false then",
    ),
    "the_period_never_rolls_over": Bug(
        "Roll-over happens inside the functions from the stored bounds and Redis' clock",
        "  local period = period_at(org, call.now)\n  no = refusal",
        "  local period = 2\n  no = refusal",
    ),
    "known_past_the_end": Bug(
        "past the end of the next period the organization is unknown",
        "  org.known = found[2] == '1' and period_at(org, call.now) ~= nil\n",
        "  org.known = found[2] == '1'\n",
    ),
    "every_total_is_of_now": Bug(
        "`apply` names the period of each total",
        "      local field = 'spent ' .. digits(total.start)",
        "      local field = 'spent ' .. digits(org.bounds[2])",
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
        "if run_id ~= answer[5] or replication_id ~= answer[6] then",
        "if false then",
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
