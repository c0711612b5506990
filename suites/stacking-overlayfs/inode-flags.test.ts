import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { fill } from '../lib/layers.ts';
import { upperOn } from '../lib/stack.ts';
import { flagsOf } from '../lib/inode-flags.ts';

/** Which flags of chattr(1) a copy in the upper layer has: those about syncing and access times of the lower file, and no others. */

/** Of S (written at once), A (no access times) and d (not backed up). */
const LETTERS = 'SAd';

/** By name in the lower layer: the flags there, and those of the copy. */
const FLAGS: Readonly<Record<string, readonly [below: string, copied: string]>> = {
  quiet: ['A', 'A'],
  synced: ['S', 'S'],
  both: ['SA', 'SA'],
  'not backed up': ['Ad', 'A'],
};

async function lowerWithFlags(guest: TestGuest, client: Client): Promise<string> {
  const lower = await guest.directory('ext4', 'lower');
  for (const [name, [flags]] of Object.entries(FLAGS)) {
    await fill(client, lower, [name, `${name}, directory/`]);
    for (const each of [name, `${name}, directory`])
      await guest.run(['chattr', `+${flags}`, `${lower}/${each}`]);
  }
  return lower;
}

/** Copies all of it up and compares. */
async function copied(guest: TestGuest, client: Client, overlay: string, upper: string) {
  const found: Record<string, string> = {};
  for (const name of Object.keys(FLAGS)) {
    for (const each of [name, `${name}, directory`]) {
      await client.chmod({ path: `${overlay}/${each}`, mode: 0o700 });
      found[each] = await flagsOf(guest, `${upper}/${each}`, LETTERS);
    }
  }
  return found;
}

const EXPECTED = Object.fromEntries(
  Object.entries(FLAGS).flatMap(([name, [, flags]]) => [
    [name, flags],
    [`${name}, directory`, flags],
  ]),
);

guestTest(
  'files and directories are copied up with the flags for syncing and access times that they have, and with no others (E4)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await lowerWithFlags(guest, client);
    for (const inherited of ['', 'A', 'S']) {
      const { upper, work } = await upperOn(guest);
      // What is made in such a directory has the flag at first.
      if (inherited !== '') await guest.run(['chattr', `+${inherited}`, work]);
      await using overlay = await guest.mountOverlay({ lower, upper, work }, client);
      const found = await copied(guest, client, overlay.path, upper);
      t.deepEqual(found, EXPECTED, `the flag of the work directory: ${inherited || 'none'}`);
    }
  },
);

guestTest('flags of what is copied up to XFS are flags there (E4)', async (t, guest) => {
  await using disk = await guest.spareDisk('xfs');
  await using client = await guest.client();
  const lower = await lowerWithFlags(guest, client);
  // What is made in a work directory that has a flag has it, too, at first.
  for (const inherited of ['', 'A']) {
    const [upper, work] = [
      await disk.directory(`upper${inherited}`),
      await disk.directory(`work${inherited}`),
    ];
    if (inherited !== '') await guest.run(['chattr', `+${inherited}`, work]);
    await using overlay = await guest.mountOverlay({ lower, upper, work }, client);
    const found = await copied(guest, client, overlay.path, upper);
    t.deepEqual(found, EXPECTED, `the flag of the work directory: ${inherited || 'none'}`);
  }
});

guestTest('a directory that may only get names stays one when it is copied up (E4)', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'lower');
  const layers = await upperOn(guest);
  await fill(client, lower, ['d/', 'd/below']);
  await guest.run(['chattr', '+a', `${lower}/d`]);
  try {
    for (const time of ['copied up', 'mounted again']) {
      await using overlay = await guest.mountOverlay({ lower, ...layers }, client);
      t.is(await client.errno.creat({ path: overlay.file(`d/${time}`) }), 'ok', `${time}: a new name`);
      t.is(
        await client.errno.unlink({ path: overlay.file(`d/${time}`) }),
        'EPERM',
        `${time}: none is removed`,
      );
      t.is(
        await client.errno.unlink({ path: overlay.file('d/below') }),
        'EPERM',
        `${time}: nor one of below`,
      );
    }
  } finally {
    await guest.run(['chattr', '-a', `${lower}/d`]);
  }
});
