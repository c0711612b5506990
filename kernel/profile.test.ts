import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { Failure } from '#runner/lib/failure.ts';
import { defaultProfile, listProfiles, loadProfile } from './profile.ts';

const dir = await mkdtemp(join(tmpdir(), 'fusegate-profile-'));
test.after.always(() => rm(dir, { recursive: true, force: true }));

test('profile: every profile of the project loads', async (t) => {
  const names = await listProfiles();
  t.true(names.includes('mainline-6.12'));
  for (const name of names) t.is((await loadProfile(name)).name, name);
});

test('profile: an unknown one is the user’s mistake and the known ones are listed', async (t) => {
  for (const name of ['nope', '../../package', '']) {
    const failure = await t.throwsAsync(loadProfile(name), { instanceOf: Failure });
    t.is(failure.code, 'E_PROFILE_UNKNOWN');
    t.is(failure.blame, 'user');
    t.regex(failure.hint ?? '', /mainline-6\.12/);
  }
});

test('profile: an invalid one is refused with file, key and what it must be', async (t) => {
  await writeFile(join(dir, 'bad.json'), JSON.stringify({ name: 'bad', source: {} }));
  await writeFile(join(dir, 'torn.json'), '{');
  const bad = await t.throwsAsync(loadProfile('bad', dir), { instanceOf: Failure });
  t.is(bad.code, 'E_PROFILE_INVALID');
  t.regex(bad.message, /bad\.json.*(?:description|source)/);
  const torn = await t.throwsAsync(loadProfile('torn', dir), { instanceOf: Failure });
  t.regex(torn.message, /not JSON/);
});

test('profile: the default is the seed series once series and profile are there', async (t) => {
  t.is(defaultProfile(dir), 'mainline-6.12');
  await mkdir(join(dir, 'kernel', 'series', 'v12'), { recursive: true });
  t.is(defaultProfile(dir), 'mainline-6.12');
  await mkdir(join(dir, 'kernel', 'profiles'), { recursive: true });
  await writeFile(join(dir, 'kernel', 'profiles', 'v12-6.1.json'), '{}');
  t.is(defaultProfile(dir), 'v12-6.1');
});
