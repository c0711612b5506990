import { Failure } from '#runner/lib/failure.ts';
import { diffOffset } from './diff.ts';
import { type Mail, utf8OrLatin1 } from './mail.ts';
import type { PatchText } from './patch.ts';
import { printable } from './printable.ts';
import { parseSubject, type SubjectLine } from './subject.ts';
import { parseTrailers, type Trailers } from './trailers.ts';

/** What one mail has for a series. */
export interface Message {
  readonly subject: SubjectLine;
  readonly trailers: Trailers;
  /** `undefined` for a message without a diff. */
  readonly patch: PatchText | undefined;
}

export function readMessage(mail: Mail, strip: number): Message {
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

export function noDiff(number: number, total: number, title: string): Failure {
  return new Failure(
    'E_SERIES_NO_DIFF',
    'series',
    `patch ${number}/${total} (${printable(title)}) has no diff`,
    { hint: 'was its diff an attachment that got lost? Fetch the thread again, for example with `b4 am`' },
  );
}
