import { text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';

/** A parameter of the module that scripts may still set (MODULE_PARM_DESC: "Obsolete; does nothing"). */

guestTest(
  'the parameter check_copy_up of the module may be set, and says that it does nothing',
  async (t, guest) => {
    const path = '/sys/module/overlay/parameters/check_copy_up';
    const written = await guest.tryRun(['sh', '-c', `echo Y > ${path}`]);
    t.is(written.code, 0);
    await using client = await guest.client();
    t.is(text(await client.readFile({ path })), 'N\n');
  },
);
