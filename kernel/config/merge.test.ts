import test from 'ava';
import { Failure } from '#runner/lib/failure.ts';
import { listProfiles, loadProfile } from '../profile.ts';
import { profileFragments } from './load-fragments.ts';
import { parseKconfig } from './kconfig.ts';
import { formatWishes, mergeFragments, overridden, unmetWishes } from './merge.ts';

const a = parseKconfig('CONFIG_X=y\nCONFIG_Y=y\n', 'a.config');
const b = parseKconfig('# CONFIG_X is not set\n', 'b.config');

test('merge: two fragments of the same rank that disagree are refused, both named', (t) => {
  const failure = t.throws(() => mergeFragments([a, b], []), { instanceOf: Failure });
  t.is(failure.code, 'E_CONFIG_CONFLICT');
  t.regex(failure.message, /a\.config has CONFIG_X=y, b\.config has # CONFIG_X is not set/);
});

test('merge: a fragment of the user overrides the profile', (t) => {
  const wishes = mergeFragments([a], [b]);
  t.is(formatWishes(wishes), '# CONFIG_X is not set\nCONFIG_Y=y\n');
  t.deepEqual(overridden([a], [b]), ['X']);
  t.true(wishes.get('X')?.own);
});

test('merge: what the final configuration lacks is listed, asked and got', (t) => {
  const wishes = mergeFragments(
    [parseKconfig('CONFIG_A=y\nCONFIG_B=y\n# CONFIG_C is not set\nCONFIG_D=7\n', 'w')],
    [],
  );
  const unmet = unmetWishes(wishes, parseKconfig('CONFIG_A=y\nCONFIG_C=y\nCONFIG_D=8\n', '.config'));
  t.deepEqual(
    unmet.map(({ symbol, asked, got }) => [symbol, asked, got]),
    [
      ['B', 'y', 'n'],
      ['C', 'n', 'y'],
      ['D', '7', '8'],
    ],
  );
});

test('merge: every profile’s fragments are there and agree', async (t) => {
  for (const name of await listProfiles()) {
    const profile = await loadProfile(name);
    const wishes = mergeFragments(await profileFragments(profile.fragments), []);
    t.is(wishes.get('FUSE_FS')?.value, 'y', name);
  }
});
