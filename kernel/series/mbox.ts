import { Failure } from '#runner/lib/failure.ts';
import { canonicalDiff, DiffError, diffOffset } from './diff.ts';
import { type Mail, parseMail, splitMbox, utf8OrLatin1 } from './mail.ts';
import { makePatch, malformed, type PatchText } from './patch.ts';
import { printable } from './printable.ts';
import { fingerprintOf, type Series } from './series.ts';
import { joinTrailers, parseTrailers, type Trailers } from './trailers.ts';

/** `[PATCH v12 3/7] fuse: …` taken apart. */
export interface SubjectLine {
  readonly title: string;
  /** 1 without a `vN`. */
  readonly version: number;
  readonly number: number | undefined;
  readonly total: number | undefined;
  readonly reply: boolean;
}

export function parseSubject(subject: string): SubjectLine {
  const match = /^\s*((?:(?:re|aw|fwd?):\s*)*)((?:\[[^\]]*\]\s*)*)(.*)$/isu.exec(subject);
  const tags = match?.[2] ?? '';
  const count = /(?:^|[\s[])(\d{1,4})\/(\d{1,4})(?=[\s\]])/u.exec(tags);
  return {
    title: (match?.[3] ?? subject).trim(),
    version: Number(/(?:^|[\s[])v(\d{1,3})(?=[\s\]])/iu.exec(tags)?.[1] ?? 1),
    number: count?.[1] === undefined ? undefined : Number(count[1]),
    total: count?.[2] === undefined ? undefined : Number(count[2]),
    reply: /^\s*(?:re|aw):/iu.test(match?.[1] ?? ''),
  };
}

interface Message {
  readonly subject: SubjectLine;
  readonly trailers: Trailers;
  /** `undefined` for a message without a diff. */
  readonly patch: PatchText | undefined;
}

/**
 * A series from an mbox or a single message (latin1): patches in the order of their numbers, the cover letter
 * for the title, replies left out; of several versions in one thread the newest.
 *
 * @throws Failure E_SERIES_EMPTY, E_SERIES_NO_DIFF, E_SERIES_INCOMPLETE, E_SERIES_MALFORMED (series).
 */
export function parseMbox(text: string, name: string, strip = 1): Series {
  const messages = splitMbox(text).map((message) => readMessage(parseMail(message), strip));
  if (messages.length === 0) throw empty(`the series ${name} is empty: it has no message`);
  const own = messages.filter((message) => !message.subject.reply);
  const newest = Math.max(...own.map((message) => message.subject.version), 1);
  const current = own.filter((message) => message.subject.version === newest);
  const cover = current.find((message) => message.subject.number === 0);
  const patches = inOrder(current, name).map((patch, index) => makePatch(patch, index + 1));
  const notes = [...otherVersions(own, newest), ...oddities(current)];
  const trailers = joinTrailers(current.map((message) => message.trailers));
  const title = cover?.subject.title ?? (patches.length === 1 ? patches[0]?.subject : undefined) ?? name;
  return { name, title: printable(title), patches, fingerprint: fingerprintOf(patches), notes, trailers };
}

function otherVersions(own: readonly Message[], newest: number): readonly string[] {
  const older = [...new Set(own.map(({ subject }) => subject.version))].filter(
    (version) => version !== newest,
  );
  if (older.length === 0) return [];
  const list = older.toSorted((a, b) => a - b).map((version) => `v${version}`);
  return [`the thread also holds ${list.join(', ')}; v${newest} counts`];
}

/** Numbers that came twice or not in order: put right, and said. */
function oddities(messages: readonly Message[]): readonly string[] {
  const numbers = messages.flatMap(({ subject, patch }) =>
    patch === undefined || subject.number === undefined ? [] : [subject.number],
  );
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

/** `what`: a sentence. */
export function empty(what: string): Failure {
  return new Failure('E_SERIES_EMPTY', 'series', what, {
    hint: 'save the thread as an mbox (lore’s “mbox.gz”, unpacked) or make one with `git format-patch --stdout`',
  });
}

function readMessage(mail: Mail, strip: number): Message {
  const subject = parseSubject(mail.headers.get('subject') ?? '');
  const offset = diffOffset(mail.body);
  const trailers = parseTrailers(mail.body);
  if (offset === undefined) return { subject, trailers, patch: undefined };
  const above = utf8OrLatin1(mail.body.slice(0, offset));
  // An author other than the sender stands in the first line of the body.
  const inBody = /^\s*From:[ \t]*(.+)\n/u.exec(above);
  return {
    subject,
    trailers,
    patch: {
      subject: subject.title,
      author: inBody?.[1] ?? mail.headers.get('from') ?? null,
      message:
        (inBody === null ? above : above.slice(inBody[0].length)).split(/^---[ \t]*$/mu)[0]?.trim() ?? '',
      diff: mail.body.slice(offset),
      strip,
    },
  };
}

function inOrder(messages: readonly Message[], name: string): readonly PatchText[] {
  const numbered = new Map<number, PatchText>();
  const rest: PatchText[] = [];
  let total = 0;
  for (const { subject, patch } of messages) {
    const { number } = subject;
    if (number !== undefined) total = Math.max(total, subject.total ?? 0);
    if (number === 0) continue;
    if (patch === undefined) {
      if (number !== undefined) throw noDiff(number, total, subject.title);
    } else if (number === undefined) {
      rest.push(patch);
    } else {
      const before = numbered.get(number);
      if (before !== undefined && !changesTheSame(before, patch)) {
        throw malformed(name, `it has two different patches ${number}/${total}`);
      }
      numbered.set(number, patch);
    }
  }
  refuseGaps(numbered, total, name);
  const patches = [...numbered].toSorted(([a], [b]) => a - b).map(([, patch]) => patch);
  if (patches.length + rest.length > 0) return [...patches, ...rest];
  throw new Failure('E_SERIES_NO_DIFF', 'series', `no message of the series ${name} has a diff`, {
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

function refuseGaps(numbered: ReadonlyMap<number, PatchText>, total: number, name: string): void {
  if (numbered.size === 0 && total === 0) return;
  const last = Math.max(total, ...numbered.keys());
  const missing = Array.from({ length: last }, (_, index) => index + 1).filter((n) => !numbered.has(n));
  // A single file of a longer series is a patch of its own: somebody took it out on purpose.
  if (missing.length === 0 || numbered.size === 1) return;
  throw new Failure(
    'E_SERIES_INCOMPLETE',
    'series',
    `the series ${name} lacks patch ${missing.map((n) => `${n}/${total}`).join(', ')}`,
    { hint: 'fetch the whole thread again, for example with `b4 am`' },
  );
}

function noDiff(number: number, total: number, title: string): Failure {
  return new Failure(
    'E_SERIES_NO_DIFF',
    'series',
    `patch ${number}/${total} (${printable(title)}) has no diff`,
    { hint: 'was its diff an attachment that got lost? Fetch the thread again, for example with `b4 am`' },
  );
}
