import type { Patch } from '#kernel/series/series.ts';
import type { GatePatch } from './gate-schema.ts';

/** Longer subjects are cut by `git log --oneline` on most screens. Characters. */
const SUBJECT = 75;

/**
 * What a maintainer asks for anyway: a sign-off, Fixes tags as the kernel writes them, a message. Advice, because
 * none of it says that the kernel is wrong. Pure.
 */
export function hygiene({ message, subject, author }: Patch): GatePatch['advice'] {
  const found: string[] = [];
  const signed = [...message.matchAll(/^Signed-off-by: (.+)$/gm)].map(([, who = '']) => who.trim());
  if (signed.length === 0) found.push('no Signed-off-by');
  else if (author !== null && !signed.some((who) => addressOf(who) === addressOf(author))) {
    found.push('no Signed-off-by of its author');
  }
  for (const [, fixes = ''] of message.matchAll(/^Fixes:\s*(.*)$/gim)) {
    if (!/^[0-9a-f]{12,40} \("[^\n]+"\)$/.test(fixes.trim())) {
      found.push(`a Fixes tag not of the form <12 digits> ("subject"): ${fixes.trim()}`);
    }
  }
  if (message.replaceAll(/^[A-Z][A-Za-z-]+: .*$/gm, '').trim() === '') found.push('no commit message');
  if (subject.length > SUBJECT) found.push(`the subject has ${subject.length} characters`);
  if (!/^[\w/.,+ -]+: \S/.test(subject)) found.push('the subject names no subsystem');
  return found.map((text) => ({ source: 'hygiene', text }));
}

function addressOf(person: string): string {
  return (/<([^>]+)>/.exec(person)?.[1] ?? person).trim().toLowerCase();
}
