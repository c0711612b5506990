import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import type { TestOutcome } from '#runner/lib/events.ts';
import { Failure } from '#runner/lib/failure.ts';
import { parseData } from '#runner/lib/json.ts';

const knownFailure = z.strictObject({
  /** `area/file: title` */
  id: z.string().min(1),
  profiles: z.array(z.string()).min(1),
  reason: z.string().min(1),
  /** Where it is discussed: an address, or a page of docs/findings. */
  link: z.union([z.url(), z.string().regex(/^docs\/findings\/[0-9]{4}-[a-z0-9.-]+\.md$/u)]),
  /** Day from which the entry fails the test again, so that nothing stays on the list for ever. */
  expires: z.iso.date(),
});
export type KnownFailure = z.infer<typeof knownFailure>;

/**
 * Reads suites/known-failures.json; a missing file is an empty list.
 * @throws Failure E_CONFIG_INVALID (user) naming the entry and the field.
 */
export async function loadKnownFailures(path: string): Promise<readonly KnownFailure[]> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  return parseData(z.array(knownFailure), text, (why) => invalid(path, why));
}

export interface Judged {
  readonly outcome: TestOutcome;
  readonly message: string | null;
}

/** `today`: ISO date. A known failure that passed or has expired fails, so that the list stays true. */
export function applyKnownFailure(judged: Judged, entry: KnownFailure | undefined, today: string): Judged {
  if (entry === undefined) return judged;
  if (judged.outcome === 'passed') {
    return {
      outcome: 'failed',
      message: `passed, but suites/known-failures.json lists it as failing (${entry.reason}): remove the entry`,
    };
  }
  if (judged.outcome !== 'failed' && judged.outcome !== 'crashed' && judged.outcome !== 'timed-out') {
    return judged;
  }
  if (today >= entry.expires) {
    const expired = `its entry in suites/known-failures.json expired on ${entry.expires} (${entry.link})`;
    return { outcome: judged.outcome, message: `${judged.message ?? judged.outcome}\n${expired}` };
  }
  return {
    outcome: 'known-failure',
    message: `${entry.reason} (${entry.link})\n${judged.message ?? ''}`.trimEnd(),
  };
}

/** A debug profile is the same kernel looking at itself: what is known of the one is known of the other. */
export function countsFor({ profiles }: KnownFailure, profile: string): boolean {
  return profiles.includes(profile) || profiles.includes(profile.replace(/-debug$/u, ''));
}

export function findKnownFailure(
  known: readonly KnownFailure[],
  id: string,
  profile: string,
): KnownFailure | undefined {
  return known.find((entry) => entry.id === id && countsFor(entry, profile));
}

function invalid(path: string, why: string): Failure {
  return new Failure('E_CONFIG_INVALID', 'user', `${path} is not a list of known failures: ${why}`, {
    hint: 'each entry needs id, profiles, reason, link and expires (YYYY-MM-DD)',
  });
}
