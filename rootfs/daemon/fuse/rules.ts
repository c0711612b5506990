import type { RequestMatch, Rule, RuleAction } from '../../protocol/requests.ts';

/** What of a request rules can look at. */
export interface Matchable {
  readonly opcode: string;
  readonly path: string | null;
  readonly nodeid: number;
  readonly pid: number;
  /** Path of the named child, for requests on a directory that carry a name. */
  readonly childPath: string | null;
}

export function matches(match: RequestMatch, request: Matchable): boolean {
  if (match.opcode !== undefined) {
    const wanted: readonly string[] = typeof match.opcode === 'string' ? [match.opcode] : match.opcode;
    if (!wanted.includes(request.opcode)) return false;
  }
  if (match.path !== undefined && match.path !== (request.childPath ?? request.path)) return false;
  if (match.nodeid !== undefined && match.nodeid !== request.nodeid) return false;
  return match.pid === undefined || match.pid === request.pid;
}

interface Entry {
  readonly id: number;
  readonly rule: Rule;
  seen: number;
  applied: number;
}

/** The test's rules, newest first: a later rule covers an earlier one. */
export class RuleBook {
  readonly #entries: Entry[] = [];
  #nextId = 1;

  add(rule: Rule): number {
    const id = this.#nextId++;
    this.#entries.unshift({ id, rule, seen: 0, applied: 0 });
    return id;
  }

  remove(id: number): void {
    const at = this.#entries.findIndex((entry) => entry.id === id);
    if (at >= 0) this.#entries.splice(at, 1);
  }

  /** Counts the request against every rule that matches it, and gives the action of the first that is due. */
  decide(request: Matchable): RuleAction | undefined {
    let decided: RuleAction | undefined;
    for (const entry of this.#entries) {
      if (!matches(entry.rule.match, request)) continue;
      entry.seen += 1;
      if (decided !== undefined || !isDue(entry)) continue;
      entry.applied += 1;
      decided = entry.rule.action;
    }
    return decided;
  }
}

function isDue({ rule, seen, applied }: Entry): boolean {
  return seen >= (rule.nth ?? 1) && applied < (rule.times ?? Infinity);
}
