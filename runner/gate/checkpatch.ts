import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Patch } from '#kernel/series/series.ts';
import { cleanLine } from '#runner/lib/clean-text.ts';
import { exec } from '#runner/lib/exec.ts';
import type { GatePatch } from './gate-schema.ts';

/** What the kernel's own script says about a patch; nothing where it or perl is missing. */
export async function checkpatch(
  patch: Patch,
  source: string,
  signal: AbortSignal,
): Promise<GatePatch['advice']> {
  const script = join(source, 'scripts', 'checkpatch.pl');
  if (!existsSync(script)) return [];
  const args = [
    script,
    '--no-tree',
    '--terse',
    '--no-summary',
    '--show-types',
    '--ignore',
    'FILE_PATH_CHANGES',
    '-',
  ];
  const { stdout } = await exec('perl', args, { cwd: source, input: mailOf(patch), signal });
  return parseCheckpatch(stdout);
}

/** `-:12: WARNING:LONG_LINE: text` → advice, each once. Pure. */
export function parseCheckpatch(said: string): GatePatch['advice'] {
  const texts = [...said.matchAll(/^[^:\n]*:(?:\d+: )?\s*(?:\d+: )?((?:ERROR|WARNING|CHECK):.*)$/gm)].map(
    ([, text = '']) => cleanLine(text, 200),
  );
  return [...new Set(texts)].map((text) => ({ source: 'checkpatch', text }));
}

/** The patch as a mail again, byte for byte in its diff. */
function mailOf({ subject, author, message, diff }: Patch): Uint8Array {
  const head = `From: ${author ?? 'unknown <unknown@example.org>'}\nSubject: [PATCH] ${subject}\n\n${message}\n---\n\n`;
  return Buffer.concat([Buffer.from(head), diff]);
}
