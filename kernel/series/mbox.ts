import { Failure } from '#runner/lib/failure.ts';
import { parseMail, splitMbox } from './mail.ts';
import { noDiff, readMessage } from './message.ts';
import { makePatch } from './patch.ts';
import { printable } from './printable.ts';
import { fingerprintOf, type Series } from './series.ts';
import { chooseMessages } from './thread.ts';
import { joinTrailers } from './trailers.ts';

/**
 * A series from an mbox or a single message (latin1): patches in the order of their numbers, the cover letter
 * for the title, replies left out; of several versions in one thread the newest.
 *
 * @throws Failure E_SERIES_EMPTY, E_SERIES_NO_DIFF, E_SERIES_INCOMPLETE, E_SERIES_MALFORMED (series).
 */
export function parseMbox(text: string, name: string, strip = 1): Series {
  const messages = splitMbox(text).map((message) => readMessage(parseMail(message), strip));
  if (messages.length === 0) throw empty(`the series ${name} is empty: it has no message`);
  const { chosen, notes } = chooseMessages(messages, name);
  const patches = chosen.flatMap(({ patch }) => patch ?? []).map((patch, at) => makePatch(patch, at + 1));
  const cover = chosen.find(({ subject }) => subject.number === 0);
  const trailers = joinTrailers(chosen.map((message) => message.trailers));
  const title = cover?.subject.title ?? (patches.length === 1 ? patches[0]?.subject : undefined) ?? name;
  return { name, title: printable(title), patches, fingerprint: fingerprintOf(patches), notes, trailers };
}

/**
 * Commits as `git format-patch` writes them, one each, in their order: what their subjects say of versions and
 * numbers is text. Diffs are the repository's own, with the ends of lines that it has.
 *
 * @throws Failure E_SERIES_NO_DIFF, E_SERIES_MALFORMED, E_SERIES_UNSAFE_PATH (series).
 */
export function seriesOfCommits(texts: readonly string[], name: string): Series {
  const patches = texts.map((text, at) => {
    const { subject, patch } = readMessage(parseMail(text, 'kept'), 1);
    if (patch === undefined) throw noDiff(at + 1, texts.length, subject.title);
    return makePatch(patch, at + 1);
  });
  const title = patches.length === 1 ? patches[0]?.subject : undefined;
  return { name, title: title ?? name, patches, fingerprint: fingerprintOf(patches), notes: [] };
}

/** `what`: a sentence. */
export function empty(what: string): Failure {
  return new Failure('E_SERIES_EMPTY', 'series', what, {
    hint: 'save the thread as an mbox (lore’s “mbox.gz”, unpacked) or make one with `git format-patch --stdout`',
  });
}
