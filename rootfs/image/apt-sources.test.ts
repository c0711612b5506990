import test from 'ava';
import { parseHostRelease, sourceLines } from './apt-sources.ts';
import { lastComplaint } from './build-rootfs.ts';

const line = (...fields: readonly string[]): string => fields.join('\t');

test('apt: release, updates and security of this machine, and nothing from third parties', (t) => {
  const output = [
    line('http://mirror/debian/', 'bookworm', 'bookworm', 'main', '$(SIGNED_BY)'),
    line('http://mirror/debian/', 'bookworm', 'bookworm', 'contrib', '$(SIGNED_BY)'),
    line('http://mirror/debian/', 'bookworm-updates', 'bookworm-updates', 'main', '$(SIGNED_BY)'),
    line('http://mirror/debian-security/', 'bookworm-security', 'bookworm-security', 'main', '$(SIGNED_BY)'),
    line('http://mirror/debian/', 'bookworm-backports', 'bookworm-backports', 'main', '$(SIGNED_BY)'),
    line('http://vendor/', 'stable', 'stable', 'main', '/usr/share/keyrings/vendor.gpg'),
    line('http://mirror/debian/', 'trixie', 'trixie', 'main', '$(SIGNED_BY)'),
  ].join('\n');
  t.deepEqual(sourceLines(output, 'bookworm', ['main']), [
    'deb http://mirror/debian-security/ bookworm-security main',
    'deb http://mirror/debian/ bookworm main',
    'deb http://mirror/debian/ bookworm-updates main',
  ]);
});

test('apt: components are joined, keyrings kept, and the release may be called by its suite', (t) => {
  const keyring = '/usr/share/keyrings/ubuntu-archive-keyring.gpg';
  const output = [
    line('mirror+file:/etc/apt/mirrors.txt', 'noble', 'noble', 'universe', keyring),
    line('mirror+file:/etc/apt/mirrors.txt', 'noble', 'noble', 'main', keyring),
    line('http://mirror/', 'stable', 'noble', 'main', '$(SIGNED_BY)'),
    line('http://mirror/', 'noble', '$(CODENAME)', 'main', '-----BEGIN PGP PUBLIC KEY BLOCK-----'),
  ].join('\n');
  t.deepEqual(sourceLines(output, 'noble', ['main', 'universe']), [
    'deb [signed-by=/usr/share/keyrings/ubuntu-archive-keyring.gpg] mirror+file:/etc/apt/mirrors.txt noble main universe',
    'deb http://mirror/ noble main',
    'deb http://mirror/ stable main',
  ]);
});

test('apt: os-release with and without quotes; without a codename there is no answer', (t) => {
  t.deepEqual(parseHostRelease('ID=debian\nVERSION_CODENAME=bookworm\n'), {
    id: 'debian',
    codename: 'bookworm',
  });
  t.deepEqual(parseHostRelease('ID="ubuntu"\nVERSION_CODENAME="noble"\n'), {
    id: 'ubuntu',
    codename: 'noble',
  });
  t.is(parseHostRelease('ID=arch\n'), undefined);
});

test('image: the last error of a build log is what is told', (t) => {
  t.is(
    lastComplaint('I: ok\nE: Unable to locate package foo\nI: cleaning\n'),
    'E: Unable to locate package foo',
  );
  t.is(lastComplaint('something\nelse\n'), 'else');
  t.is(lastComplaint(''), 'no output');
});
