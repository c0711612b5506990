import { mkdir } from 'node:fs/promises';
import type { KernelContext } from '#kernel/prepare-kernel.ts';
import type { Profile } from '#kernel/profile.ts';
import { writeMutationPatch } from '#kernel/mutation/mutation-patch.ts';
import { randomFrom } from '#runner/chaos/random.ts';
import { joinSeries, patchesOf, profileSeries, type Catalogue, type Mutant } from './mutants.ts';

/** What the suites are about, but for virtio-fs and DAX, which no guest here has. */
export const EVERY_FILE: readonly string[] = [
  'fs/backing-file.c',
  'fs/fuse/*.[ch]',
  'fs/overlayfs/*.[ch]',
  'fs/ecryptfs/*.[ch]',
  '!fs/fuse/virtio_fs.c',
  '!fs/fuse/dax.c',
  '!fs/fuse/*trace.h',
];

/**
 * Instead of a catalogue's mistakes every mutant of these files, made by rules (kernel/mutation/).
 * @returns the series for a kernel that has them all, and them.
 */
export async function everyMutant(
  { dir }: Catalogue,
  profile: Profile,
  files: readonly string[],
  context: KernelContext,
): Promise<{ readonly series: string; readonly mutants: readonly Mutant[] }> {
  await mkdir(context.out, { recursive: true });
  const below = profile.series === null ? [] : await patchesOf(profileSeries(profile.series));
  const [mutantSwitch = ''] = await patchesOf(dir);
  const before = [...below, mutantSwitch];
  const request = { profile, series: await joinSeries(before, context.out), files };
  const { path, mutants } = await writeMutationPatch(request, context);
  return {
    series: await joinSeries([...before, path], context.out),
    mutants: mutants.map(({ number, file, what }) => ({ number, file, what, noticedBy: [] })),
  };
}

export interface Sample {
  readonly size: number;
  readonly seed: number;
}

/**
 * So many of those that a test comes across, in an order that the seed decides: a larger sample of the same seed
 * has all of a smaller one. Pure.
 */
export function sampleOf(
  mutants: readonly Mutant[],
  reached: ReadonlySet<number>,
  { size, seed }: Sample,
): readonly Mutant[] {
  const random = randomFrom(seed);
  return mutants
    .map((mutant) => ({ mutant, place: random() }))
    .toSorted((a, b) => a.place - b.place)
    .filter(({ mutant: { number } }) => reached.has(number))
    .slice(0, size)
    .map(({ mutant }) => mutant);
}
