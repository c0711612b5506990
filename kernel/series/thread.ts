import { Failure } from '#runner/lib/failure.ts';
import { canonicalDiff, DiffError } from './diff.ts';
import { noDiff, type Message } from './message.ts';
import { malformed, type PatchText } from './patch.ts';
import { printable } from './printable.ts';

/** The messages that are the series: its cover letter, if there is one, and its patches in order. */
export interface Chosen {
  readonly chosen: readonly Message[];
  /** What was put right or left out; one sentence each. */
  readonly notes: readonly string[];
}

/** A message with a place in a series. */
interface Placed {
  readonly number: number;
  readonly message: Message;
}

/**
 * Which mails of a thread are the series. Of several versions the newest counts; when it holds new mails for some
 * patches only, the others are those of the version before it, as b4 does it. Whatever would have to be guessed is
 * refused: a gate must not judge half a series. Pure.
 *
 * @throws Failure E_SERIES_NO_DIFF, E_SERIES_INCOMPLETE, E_SERIES_MALFORMED (series).
 */
export function chooseMessages(thread: readonly Message[], name: string): Chosen {
  const own = thread.filter(({ subject, patch }) => !subject.reply && saysSomething(subject.number, patch));
  const newest = Math.max(...own.map(({ subject }) => subject.version));
  const current = own.filter(({ subject }) => subject.version === newest);
  const placed = placesOf(current);
  const olderNotes = otherVersions(own, newest);
  if (placed.length === 0) {
    const chosen = current.filter(({ patch }) => patch !== undefined);
    if (chosen.length === 0) throw nothingToTest(name);
    refuseLostPlaces(own, chosen, newest, name);
    return { chosen, notes: olderNotes };
  }
  const total = totalOf(placed, name);
  const numbered = byNumber(placed, total, name);
  const filled = fill(numbered, own, { newest, total, name });
  const notes = [
    ...olderNotes,
    ...filled.notes,
    ...oddities(placed),
    ...withoutNumber(current),
    ...refuseGaps(filled.patches, { total, name, alone: own.length === 1 }),
  ];
  const cover = placed.find(({ number }) => number === 0);
  const patches = [...filled.patches].toSorted(([a], [b]) => a - b).map(([, message]) => message);
  return { chosen: cover === undefined ? patches : [cover.message, ...patches], notes };
}

function saysSomething(number: number | undefined, patch: PatchText | undefined): boolean {
  return number !== undefined || patch !== undefined;
}

function placesOf(messages: readonly Message[]): readonly Placed[] {
  return messages.flatMap((message) => {
    const { number } = message.subject;
    return number === undefined ? [] : [{ number, message }];
  });
}

/** How many patches the version has: all its mails must agree, or they are of two series. */
function totalOf(placed: readonly Placed[], name: string): number {
  const totals = [...new Set(placed.map(({ message }) => message.subject.total ?? 0))];
  const [total = 0] = totals;
  if (totals.length === 1) return total;
  const list = totals.toSorted((a, b) => a - b).join(' and of ');
  throw malformed(name, `it has mails of a series of ${list} patches, and only one series can be tested`);
}

function byNumber(placed: readonly Placed[], total: number, name: string): ReadonlyMap<number, Message> {
  const numbered = new Map<number, Message>();
  for (const { number, message } of placed) {
    if (number === 0) continue;
    if (message.patch === undefined) throw noDiff(number, total, message.subject.title);
    const before = numbered.get(number)?.patch;
    if (before !== undefined && !changesTheSame(before, message.patch)) {
      throw malformed(name, `it has two different patches ${number}/${total}`);
    }
    numbered.set(number, message);
  }
  return numbered;
}

/** The patches that the newest version did not bring anew, from the versions before it. */
function fill(
  numbered: ReadonlyMap<number, Message>,
  own: readonly Message[],
  { newest, total, name }: { readonly newest: number; readonly total: number; readonly name: string },
): { readonly patches: ReadonlyMap<number, Message>; readonly notes: readonly string[] } {
  const patches = new Map(numbered);
  const notes: string[] = [];
  for (const version of olderVersions(own, newest).toReversed()) {
    if (patches.size === 0 || missingOf(patches, total).length === 0) break;
    const theirs = placesOf(own).filter(
      ({ message: { subject } }) => subject.version === version && subject.total === total,
    );
    const older = byNumber(theirs, total, name);
    const taken = missingOf(patches, total).filter((number) => older.has(number));
    for (const number of taken) {
      const message = older.get(number);
      if (message !== undefined) patches.set(number, message);
    }
    if (taken.length > 0) notes.push(`v${newest} does not have ${patchList(taken, total)}: of v${version}`);
  }
  return { patches, notes };
}

function missingOf(patches: ReadonlyMap<number, unknown>, total: number): readonly number[] {
  const last = Math.max(total, ...patches.keys());
  return Array.from({ length: last }, (_, at) => at + 1).filter((number) => !patches.has(number));
}

function patchList(numbers: readonly number[], total: number): string {
  return `${numbers.length === 1 ? 'patch' : 'patches'} ${numbers.map((n) => `${n}/${total}`).join(', ')}`;
}

function olderVersions(own: readonly Message[], newest: number): readonly number[] {
  const versions = new Set(own.map(({ subject }) => subject.version));
  return [...versions].filter((version) => version !== newest).toSorted((a, b) => a - b);
}

function otherVersions(own: readonly Message[], newest: number): readonly string[] {
  const older = olderVersions(own, newest).map((version) => `v${version}`);
  return older.length === 0 ? [] : [`the thread also holds ${older.join(', ')}; v${newest} counts`];
}

/** Numbers that came twice or not in order: put right, and said. */
function oddities(placed: readonly Placed[]): readonly string[] {
  const numbers = placed.flatMap(({ number, message }) => (message.patch === undefined ? [] : [number]));
  const twice = [...new Set(numbers.filter((number, at) => numbers.indexOf(number) < at))];
  const once = numbers.filter((number, at) => numbers.indexOf(number) === at);
  const inOrder = once.every((number, at) => at === 0 || (once[at - 1] ?? 0) < number);
  return [
    ...(twice.length === 0
      ? []
      : [
          `${twice.length === 1 ? 'patch' : 'patches'} ${twice.join(', ')} ${twice.length === 1 ? 'is' : 'are'} there more than once, with the same diff`,
        ]),
    ...(inOrder ? [] : [`the patches came in the order ${once.join(', ')}; their numbers count`]),
  ];
}

/** Patches that somebody else put into the thread, most likely: a reviewer's idea is no part of the series. */
function withoutNumber(current: readonly Message[]): readonly string[] {
  return current
    .filter(({ subject, patch }) => subject.number === undefined && patch !== undefined)
    .map(({ subject }) => `left out, because it has no number: ${printable(subject.title)}`);
}

/** @returns what is worth a word */
function refuseGaps(
  patches: ReadonlyMap<number, Message>,
  { total, name, alone }: { readonly total: number; readonly name: string; readonly alone: boolean },
): readonly string[] {
  const missing = missingOf(patches, total);
  if (missing.length === 0) return [];
  const [only] = patches.keys();
  // A single file of a longer series is a patch of its own: somebody took it out on purpose.
  if (alone && only !== undefined) return [`it is patch ${only}/${total} alone`];
  throw incomplete(
    `the series ${name} lacks ${patchList(missing, total)}`,
    'fetch the whole thread again, for example with `b4 am`',
  );
}

/** A later version without numbers beside an older one with them: a series of its own, or one patch of it anew? */
function refuseLostPlaces(
  own: readonly Message[],
  chosen: readonly Message[],
  newest: number,
  name: string,
): void {
  if (placesOf(own).length === 0) return;
  const title = printable(chosen[0]?.subject.title ?? '');
  throw incomplete(
    `v${newest} in the series ${name} has no numbers (${title}), and an older version has`,
    'save the version that is to be tested as an mbox of its own',
  );
}

function incomplete(what: string, hint: string): Failure {
  return new Failure('E_SERIES_INCOMPLETE', 'series', what, { hint });
}

function nothingToTest(name: string): Failure {
  return new Failure('E_SERIES_NO_DIFF', 'series', `no message of the series ${name} has a diff`, {
    hint: 'is this the discussion without the patches?',
  });
}

/** What a mailing list or another version of git wrote below or into the diff does not count. */
function changesTheSame(one: PatchText, other: PatchText): boolean {
  if (one.diff === other.diff) return true;
  try {
    return canonicalDiff(one.diff) === canonicalDiff(other.diff);
  } catch (error) {
    // One of them is cut: which of the two would be used?
    if (error instanceof DiffError) return false;
    throw error;
  }
}
