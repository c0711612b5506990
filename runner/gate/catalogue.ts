import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { projectRoot } from '#runner/lib/paths.ts';
import { isRed } from './decide.ts';
import type { GateResult, GateVerdict } from './gate-schema.ts';
import { BELIEVED } from './odds.ts';

/** Series with known right answers: the gate has to give them. */

const entry = z.strictObject({
  /** Directory of the series in kernel/series/catalogue. */
  name: z.string(),
  why: z.string(),
  profile: z.string(),
  suite: z.string(),
  match: z.string().optional(),
  exitCode: z.int(),
  /** All the regressions: by which patch, of tests whose id begins so. */
  regressed: z.array(z.strictObject({ patch: z.int(), test: z.string(), mendedBy: z.int().optional() })),
  /** Patches that are not built, by number. */
  states: z.record(z.string(), z.enum(['not-built', 'not-applied'])).default({}),
  /** Patches whose kernel is that of another one. */
  sameAs: z.record(z.string(), z.int()).default({}),
  /** A part of the new warning that a patch brings. */
  warnings: z.record(z.string(), z.string()).default({}),
  /** The fault shows only now and then: a gate may be unlucky and see nothing. */
  luck: z.boolean().default(false),
});
export type CatalogueEntry = z.infer<typeof entry>;

export const catalogueDir = join(projectRoot, 'kernel', 'series', 'catalogue');

export async function loadCatalogue(): Promise<readonly CatalogueEntry[]> {
  const text = await readFile(join(catalogueDir, 'catalogue.json'), 'utf8');
  return z.array(entry).parse(JSON.parse(text));
}

/** Where a gate's answer is not the right one; empty: it is. Pure. */
export function mismatches(expected: CatalogueEntry, gate: GateResult, exitCode: number): readonly string[] {
  const red = gate.verdicts.filter(isRed);
  if (expected.luck && red.length === 0 && exitCode !== expected.exitCode) return [];
  const found: string[] = [];
  if (exitCode !== expected.exitCode) found.push(`exit code ${exitCode}, not ${expected.exitCode}`);
  for (const right of expected.regressed) found.push(...regressionMismatches(right, red));
  const wrongly = red.filter(({ test }) => !expected.regressed.some((right) => test.startsWith(right.test)));
  found.push(...wrongly.map(({ id }) => `${id}: wrongly blamed`));
  return [...found, ...patchMismatches(expected, gate)];
}

function regressionMismatches(
  right: CatalogueEntry['regressed'][number],
  red: readonly GateVerdict[],
): readonly string[] {
  const blamed = red.filter((verdict) => verdict.test.startsWith(right.test));
  if (blamed.length === 0) return [`${right.test}: not found`];
  return blamed.flatMap(({ id, patch, mendedBy, odds }) => [
    ...(patch?.first === right.patch && patch.last === right.patch
      ? []
      : [`${id}: blamed on ${JSON.stringify(patch)}, not ${right.patch}`]),
    ...(mendedBy === (right.mendedBy ?? null) ? [] : [`${id}: mended by ${mendedBy ?? 'none'}`]),
    ...(odds !== null && odds < BELIEVED ? [] : [`${id}: odds ${odds ?? 'none'}`]),
  ]);
}

function patchMismatches({ states, sameAs, warnings }: CatalogueEntry, gate: GateResult): readonly string[] {
  return gate.patches.flatMap((patch) => {
    const number = String(patch.index);
    const warning = warnings[number];
    const warned =
      warning === undefined
        ? patch.warnings.length === 0
        : patch.warnings.some((text) => text.includes(warning));
    return [
      ...(patch.state === (states[number] ?? 'built') ? [] : [`patch ${number}: ${patch.state}`]),
      ...(sameAs[number] === undefined || patch.sameAs === sameAs[number]
        ? []
        : [`patch ${number}: same as ${patch.sameAs ?? 'none'}`]),
      ...(warned ? [] : [`patch ${number}: warnings ${JSON.stringify(patch.warnings)}`]),
    ];
  });
}
