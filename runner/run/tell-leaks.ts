import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Guest } from '#runner/guest/guest.ts';
import { scanForLeaks } from '#runner/guest/leak-scan.ts';
import { cleanLine } from '#runner/lib/clean-text.ts';
import { Failure } from '#runner/lib/failure.ts';
import { recogniseFaults } from '#runner/verdict/kernel-log.ts';
import type { PartContext } from './parts.ts';

/** Tells what memory the tests of a file have leaked. A machine that cannot be asked any more is a note. */
export async function tellLeaks(
  guest: Guest,
  file: string,
  { emit, signal, out }: PartContext & { readonly out: string },
): Promise<void> {
  const { id: machine, consolePath } = guest.machine;
  try {
    const lines = await scanForLeaks(guest, signal);
    if (lines.length === 0) return;
    const path = join(out, `leaks-${machine}.txt`);
    await writeFile(path, `${lines.map(cleanLine).join('\n')}\n`);
    const evidence = [
      { label: 'leaks', path },
      { label: 'whole console', path: consolePath },
    ];
    for (const { kind, title, fingerprint } of recogniseFaults(lines)) {
      const whole = cleanLine(`${title} after the tests of ${file}: ${fingerprint}`);
      emit({ type: 'kernel-fault', machine, kind, title: whole, fingerprint, test: null, evidence });
    }
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    emit({ type: 'note', text: `${machine} was not searched for leaks: ${error.message}` });
  }
}
