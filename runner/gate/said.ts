import { cleanLine, neutraliseCommands } from '#runner/lib/clean-text.ts';
import { wrap } from './wrap.ts';

/** Text from the series or the guest on one line, harmless to a terminal and to CI. Pure. */
export function shown(text: string): string {
  return neutraliseCommands(cleanLine(text));
}

/**
 * What a failed test said, line by line as it said it, in at most `most` lines of the page. Where in the suite it
 * failed is left out: that is in the evidence. Pure.
 */
export function saidLines(message: string, indent: string, most: number): readonly string[] {
  const lines = message
    .split('\n')
    .map((line) => shown(line.replace(/␊$/, '')))
    .filter((line) => line.trim() !== '' && !/^at (?:file:\/\/|async )/.test(line))
    .flatMap((line) => wrap(line, `${indent}| `, `${indent}|   `));
  return lines.length <= most ? lines : [...lines.slice(0, most - 1), `${indent}| ...`];
}
