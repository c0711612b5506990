import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { FAULT_KINDS, type TestOutcome } from '#runner/lib/events.ts';
import { Failure } from '#runner/lib/failure.ts';
import { parseData } from '#runner/lib/json.ts';
import type { KernelFault } from './kernel-log.ts';

const knownFailure = z.strictObject({
  /** `area/file: title` */
  id: z.string().min(1),
  profiles: z.array(z.string()).min(1),
  reason: z.string().min(1),
  /** Where it is discussed: an address, or a page of docs/findings. */
  link: z.union([z.url(), z.string().regex(/^docs\/findings\/[0-9]{4}-[a-z0-9.-]+\.md$/u)]),
  /**
   * What the kernel says about the same thing wherever it happens, for kernels that look at themselves. It does
   * not fail the other tests of these profiles, which are known failures as well if nothing else is wrong.
   */
  report: z
    .strictObject({
      kind: z.enum(FAULT_KINDS),
      /** All of these are in it. */
      says: z.array(z.string().min(1)).min(1),
    })
    .optional(),
  /**
   * Stable releases from which on the kernels of the same line have been mended, such as `6.1.189`; the entry
   * says nothing about those.
   */
  mendedIn: z.array(z.string().regex(/^\d+\.\d+\.\d+$/u)).optional(),
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
    message: `${inWords(entry)}\n${judged.message ?? ''}`.trimEnd(),
  };
}

/** Why the failure is no news. */
export function inWords({ reason, link }: KnownFailure): string {
  return `${reason} (${link})`;
}

/**
 * What is known of a kernel. A debug profile is the same kernel looking at itself: what is known of the one is
 * known of the other. Pure.
 * @param release as `uname -r` prints it
 */
export function knownOf(
  known: readonly KnownFailure[],
  { profile, release }: { readonly profile: string; readonly release: string },
): readonly KnownFailure[] {
  const names = [profile, profile.replace(/-debug$/u, '')];
  return known.filter(
    ({ profiles, mendedIn = [] }) =>
      profiles.some((name) => names.includes(name)) &&
      !mendedIn.some((from) => isSameLineFrom(release, from)),
  );
}

function isSameLineFrom(release: string, from: string): boolean {
  const [major, minor, patch = 0] = numbersOf(release);
  const [fromMajor, fromMinor, fromPatch = 0] = numbersOf(from);
  return major === fromMajor && minor === fromMinor && patch >= fromPatch;
}

function numbersOf(release: string): readonly number[] {
  return (/^[\d.]+/u.exec(release)?.[0] ?? '').split('.').map(Number);
}

/** The entry that excuses a complaint of the kernel in any test; one that has expired excuses nothing. Pure. */
export function findKnownReport(
  known: readonly KnownFailure[],
  { kind, lines }: Pick<KernelFault, 'kind' | 'lines'>,
  today: string,
): KnownFailure | undefined {
  const says = (words: string): boolean => lines.some((line) => line.includes(words));
  return known.find(
    (entry) => entry.report?.kind === kind && entry.report.says.every(says) && today < entry.expires,
  );
}

function invalid(path: string, why: string): Failure {
  return new Failure('E_CONFIG_INVALID', 'user', `${path} is not a list of known failures: ${why}`, {
    hint: 'each entry needs id, profiles, reason, link and expires (YYYY-MM-DD)',
  });
}
