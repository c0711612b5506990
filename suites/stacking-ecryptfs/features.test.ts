import { text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';

/** Of linux/ecryptfs.h: what “userspace tools such as the mount helper read (…) to determine how to behave”. */
const FEATURES: Readonly<Record<string, number>> = {
  'a passphrase': 0x1,
  'a public key': 0x2,
  'plain files shown as they are': 0x4,
  'headers in attributes': 0x10,
  'several keys of a mount': 0x20,
  'a device to talk to a daemon': 0x40,
  'names encrypted': 0x100,
};
/** A kernel that is built without messages to a daemon has neither of these. */
const WITH_DAEMON = ['a public key', 'a device to talk to a daemon'];

guestTest('ecryptfs says in sysfs what mounts can ask of it, to everybody', async (t, guest) => {
  await using client = await guest.client();
  const path = '/sys/fs/ecryptfs/version';
  t.is((await client.stat({ path })).mode & 0o777, 0o444);
  const said = text(await client.readFile({ path }));
  t.regex(said, /^\d+\n$/);
  const has = (bit: number) => (Number(said) & bit) !== 0;
  const daemon = await client.errno.stat({ path: '/dev/ecryptfs' });
  for (const [what, bit] of Object.entries(FEATURES)) {
    t.is(has(bit), daemon === 'ok' || !WITH_DAEMON.includes(what), what);
  }
  const all = Object.values(FEATURES).reduce((sum, bit) => sum | bit, 0);
  t.is(Number(said) & ~all, 0, 'nothing that it has not');
});
