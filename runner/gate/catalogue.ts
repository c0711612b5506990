import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { projectRoot } from '#runner/lib/paths.ts';
import { isRed } from './decide.ts';
import type { GateResult, GateVerdict } from './gate-schema.ts';
import { BELIEVED } from './odds.ts';

/** Series with known right answers: the gate has to give them. */

const entry = z.strictObject({
  /** Also the directory of the series in kernel/series/catalogue, unless `series` says another. */
  name: z.string(),
  /** Directory in kernel/series. */
  series: z.string().optional(),
  /** Directory in kernel/series of an earlier version: the two are compared. */
  against: z.string().optional(),
  why: z.string(),
  profile: z.string(),
  suite: z.string(),
  match: z.union([z.string(), z.array(z.string())]).optional(),
  exitCode: z.int(),
  /** All the regressions: by which patch, of tests whose id begins so. */
  regressed: z.array(z.strictObject({ patch: z.int(), test: z.string(), mendedBy: z.int().optional() })),
  /** All that is mended: by which patch, of tests whose id begins so. */
  fixed: z.array(z.strictObject({ patch: z.int(), test: z.string() })).default([]),
  /** What else is to be said about tests, by the beginning of their ids. */
  kinds: z.record(z.string(), z.enum(['pre-existing', 'known-failure', 'passed', 'skipped'])).default({}),
  /** A part of what a regression says. */
  says: z.string().optional(),
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

/** Where the series of an entry lies, and the version that it is compared with. */
export function seriesOf({ name, series, against }: CatalogueEntry): {
  series: string;
  against: string | undefined;
} {
  const dir = join(projectRoot, 'kernel', 'series');
  return {
    series: series === undefined ? join(catalogueDir, name) : join(dir, series),
    against: against === undefined ? undefined : join(dir, against),
  };
}

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
  found.push(...wordMismatches(expected, red));
  return [
    ...found,
    ...fixMismatches(expected, gate),
    ...kindMismatches(expected, gate),
    ...patchMismatches(expected, gate),
  ];
}

function wordMismatches({ says }: CatalogueEntry, red: readonly GateVerdict[]): readonly string[] {
  if (says === undefined) return [];
  const said = red.some(({ message, fault }) => `${message ?? ''} ${fault?.title ?? ''}`.includes(says));
  return said ? [] : [`no regression says ${JSON.stringify(says)}`];
}

function fixMismatches({ fixed }: CatalogueEntry, { verdicts }: GateResult): readonly string[] {
  const found = verdicts.filter(({ kind }) => kind === 'fixed');
  return [
    ...fixed.flatMap((right) => {
      const mended = found.filter(({ test }) => test.startsWith(right.test));
      if (mended.length === 0) return [`${right.test}: not fixed`];
      return mended.flatMap(({ id, patch, odds, confirmed }) => [
        ...(patch?.last === right.patch && patch.first === right.patch
          ? []
          : [`${id}: fixed by ${JSON.stringify(patch)}, not ${right.patch}`]),
        ...(confirmed && odds !== null && odds < BELIEVED ? [] : [`${id}: odds ${odds ?? 'none'}`]),
      ]);
    }),
    ...found
      .filter(({ test }) => !fixed.some((right) => test.startsWith(right.test)))
      .map(({ id }) => `${id}: wrongly called fixed`),
  ];
}

function kindMismatches({ kinds }: CatalogueEntry, { verdicts }: GateResult): readonly string[] {
  return Object.entries(kinds).flatMap(([start, kind]) => {
    const found = verdicts.filter(({ id }) => id.startsWith(start));
    if (found.length === 0) return [`${start}: no verdict`];
    return found
      .filter((verdict) => verdict.kind !== kind)
      .map(({ id, kind: other }) => `${id}: ${other}, not ${kind}`);
  });
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
