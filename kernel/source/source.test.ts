import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import type { RunEvent } from '#runner/lib/events.ts';
import { execOrFail } from '#runner/lib/exec.ts';
import { Failure } from '#runner/lib/failure.ts';
import { sha256OfFile } from '#runner/lib/hash-file.ts';
import type { Profile } from '../profile.ts';
import { makeFakeKernel } from '../testdata/fake-kernel.ts';
import { debianSource, versionOfDeb } from './debian-package.ts';
import { parseKernelVersion } from './kernel-tree.ts';
import { resolveSource } from './resolve-source.ts';
import { tarballSource } from './tarball.ts';

const dir = await mkdtemp(join(tmpdir(), 'fusegate-source-'));
process.env['FUSEGATE_CACHE'] = join(dir, 'cache');
const events: RunEvent[] = [];
const context = { emit: (event: RunEvent) => events.push(event), signal: new AbortController().signal };

await makeFakeKernel(join(dir, 'linux-source-6.99'));
const archive = join(dir, 'linux-source-6.99.tar.xz');
await execOrFail('tar', ['-cJf', archive, '-C', dir, 'linux-source-6.99']);
const sha256 = await sha256OfFile(archive);

test.after.always(() => rm(dir, { recursive: true, force: true }));

async function makefileOf(tree: string): Promise<string> {
  return readFile(join(tree, 'Makefile'), 'utf8');
}

test('source: versions of Debian file names, also with an epoch', (t) => {
  t.is(
    versionOfDeb('linux-source-6.12_6.12.117-1~deb12u1_all.deb', 'linux-source-6.12'),
    '6.12.117-1~deb12u1',
  );
  t.is(versionOfDeb('linux-source-6.1_1%3a6.1-2_all.deb', 'linux-source-6.1'), '1:6.1-2');
  t.is(versionOfDeb('linux-source-6.12_1_all.deb', 'linux-source-6.1'), undefined);
  t.is(versionOfDeb('unfinished-x', 'linux-source-6.1'), undefined);
});

test('source: a version from the top Makefile, and none from another', (t) => {
  t.is(parseKernelVersion('VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 1\nEXTRAVERSION = -rc2\n'), '6.12.1-rc2');
  t.is(
    parseKernelVersion('VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 0\nEXTRAVERSION =\nNAME = x\n'),
    '6.12.0',
  );
  t.is(parseKernelVersion('all:\n\techo\n'), undefined);
});

test('source: a tarball is unpacked once, and one with another sum not at all', async (t) => {
  const first = await tarballSource({ url: archive, sha256 }, context);
  t.regex(await makefileOf(first.dir), /^VERSION = 6/);
  const second = await tarballSource({ url: `file://${archive}`, sha256 }, context);
  t.is(second.id, first.id);
  t.true(second.cached);
  const wrong = await t.throwsAsync(tarballSource({ url: archive, sha256: '0'.repeat(64) }, context), {
    instanceOf: Failure,
  });
  t.is(wrong.code, 'E_SOURCE_CHECKSUM');
  t.is(wrong.blame, 'infra');
  const missing = await t.throwsAsync(
    tarballSource({ url: '/no/such.tar', sha256: '1'.repeat(64) }, context),
    {
      instanceOf: Failure,
    },
  );
  t.is(missing.code, 'E_SOURCE_UNAVAILABLE');
});

test('source: a package that was downloaded before is used without asking the network', async (t) => {
  const root = join(dir, 'package');
  await mkdir(join(root, 'DEBIAN'), { recursive: true });
  await mkdir(join(root, 'usr', 'src'), { recursive: true });
  await writeFile(
    join(root, 'DEBIAN', 'control'),
    'Package: linux-source-6.99\nVersion: 6.99.1-1\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: x\n',
  );
  await execOrFail('cp', [archive, join(root, 'usr', 'src')]);
  const downloads = join(dir, 'cache', 'downloads');
  await mkdir(downloads, { recursive: true });
  await execOrFail('dpkg-deb', [
    '--build',
    '--root-owner-group',
    root,
    join(downloads, 'linux-source-6.99_6.99.1-1_all.deb'),
  ]);
  const source = await debianSource('linux-source-6.99', context);
  t.is(source.label, 'linux-source-6.99 6.99.1-1');
  t.regex(await makefileOf(source.dir), /^VERSION = 6/);
  t.false(source.cached);
  t.true((await debianSource('linux-source-6.99', context)).cached);
});

test('source: without the package the profile’s tarball is taken, and said', async (t) => {
  const profile: Profile = {
    name: 'x',
    description: 'x',
    source: { debianPackage: 'linux-source-0.0', tarball: { url: archive, sha256 } },
    series: null,
    fragments: ['fuse'],
    abi: 'fd',
    kernelFeatures: {},
    expectations: [],
  };
  const source = await resolveSource({ profile }, context);
  t.is(source.label, 'linux-source-6.99.tar.xz');
  t.true(events.some((event) => event.type === 'note' && event.text.includes('using the tarball instead')));
});
