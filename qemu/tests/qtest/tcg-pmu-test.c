/*
 * QTest of the model-specific registers of performance monitoring under TCG
 *
 * A firmware of a few instructions reads and writes the registers that a list
 * in memory names, in real mode, and asks for a reset.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "qobject/qdict.h"
#include "libqtest.h"

#define CPU             "Icelake-Server,model=106,stepping=6"

#define LIST            0x10000         /* where the firmware expects it */
#define MAX_COMMANDS    64

typedef struct Command {
    uint32_t what;
    uint32_t msr;
    uint64_t value;         /* in: to write; out: read, afterwards */
} Command;

enum { END, READ, WRITE };
#define FAULTED         0xff            /* low byte of Command.what, out */

/* The firmware, at f000:0000 */
static const uint8_t firmware[] = {
                                    /* start: */
    0x31, 0xc0,                     /*   xor %ax, %ax */
    0x8e, 0xd8,                     /*   mov %ax, %ds */
    0x8e, 0xd0,                     /*   mov %ax, %ss */
    0xbc, 0x00, 0x70,               /*   mov $0x7000, %sp */
    0xc7, 0x06, 0x34, 0, 0x3e, 0,   /*   movw $fault, 13 * 4: #GP */
    0x8c, 0x0e, 0x36, 0,            /*   mov %cs, 13 * 4 + 2 */
    0xb8, 0x00, 0x10,               /*   mov $0x1000, %ax: the list */
    0x8e, 0xd8,                     /*   mov %ax, %ds */
    0x31, 0xf6,                     /*   xor %si, %si */
                                    /* next: */
    0x66, 0x8b, 0x4c, 0x04,         /*   mov 4(%si), %ecx */
    0x66, 0x8b, 0x44, 0x08,         /*   mov 8(%si), %eax */
    0x66, 0x8b, 0x54, 0x0c,         /*   mov 12(%si), %edx */
    0x80, 0x3c, 0x01,               /*   cmpb $READ, (%si) */
    0x72, 0x1b,                     /*   jb done */
    0x74, 0x02,                     /*   je read */
    0x0f, 0x30,                     /*   wrmsr */
                                    /* read: */
    0x0f, 0x32,                     /*   rdmsr */
    0x66, 0x89, 0x44, 0x08,         /*   mov %eax, 8(%si) */
    0x66, 0x89, 0x54, 0x0c,         /*   mov %edx, 12(%si) */
                                    /* step: */
    0x83, 0xc6, 0x10,               /*   add $16, %si */
    0xeb, 0xdc,                     /*   jmp next */
                                    /* fault: */
    0x83, 0xc4, 0x06,               /*   add $6, %sp */
    0xc6, 0x04, FAULTED,            /*   movb $FAULTED, (%si) */
    0xeb, 0xf3,                     /*   jmp step */
                                    /* done: */
    0xb0, 0xfe,                     /*   mov $0xfe, %al */
    0xe6, 0x64,                     /*   out %al, $0x64: reset */
    0xf4,                           /*   hlt */
    0xeb, 0xfd,                     /*   jmp . - 1 */
};

static char *write_firmware(void)
{
    g_autofree uint8_t *image = g_malloc0(64 * KiB);
    g_autoptr(GError) err = NULL;
    char *path = g_strdup_printf("%s/tcg-pmu-test-%d.rom", g_get_tmp_dir(),
                                 getpid());

    memcpy(image, firmware, sizeof(firmware));
    memcpy(image + 0xfff0, "\xe9\x0d\x00", 3);          /* jmp start */
    g_file_set_contents(path, (char *)image, 64 * KiB, &err);
    g_assert_no_error(err);
    return path;
}

/* Have a CPU carry out @commands, up to END, and say what came of them. */
static void run(const char *cpu, Command *commands)
{
    g_autofree char *path = write_firmware();
    QTestState *qts;
    size_t n = 0;

    while (commands[n].what != END) {
        n++;
    }
    g_assert_cmpuint(n, <, MAX_COMMANDS);
    qts = qtest_initf("-accel tcg -machine q35 -nodefaults -cpu %s -bios %s -S "
                      "-action reboot=shutdown,shutdown=pause", cpu, path);
    for (size_t i = 0; i <= n; i++) {
        uint64_t at = LIST + i * 16;

        qtest_writel(qts, at, commands[i].what);
        qtest_writel(qts, at + 4, commands[i].msr);
        qtest_writeq(qts, at + 8, commands[i].value);
    }
    qtest_qmp_assert_success(qts, "{ 'execute': 'cont' }");
    qtest_qmp_eventwait(qts, "SHUTDOWN");
    for (size_t i = 0; i < n; i++) {
        uint64_t at = LIST + i * 16;

        commands[i].what = qtest_readl(qts, at) & 0xff;
        commands[i].value = qtest_readq(qts, at + 8);
    }
    qtest_quit(qts);
    unlink(path);
}

typedef struct Attempt {
    uint32_t msr;
    uint64_t written, read;
} Attempt;

/* Write each of @nr registers; @commands say what became of it. */
static void write_all(Command *commands, const Attempt *attempts, int nr)
{
    for (int i = 0; i < nr; i++) {
        commands[i] = (Command) { WRITE, attempts[i].msr, attempts[i].written };
    }
    run(CPU ",pmu=on", commands);
}

/* What a write leaves, and that it does not fault */
static void test_written(void)
{
    static const Attempt attempts[] = {
        { 0x0c1, 0x0000000080000000, 0x0000ffff80000000 },  /* sign-extended */
        { 0x0c8, 0x0001234500000007, 0x0000000000000007 },
        { 0x4c1, 0x0000fedcba987654, 0x0000fedcba987654 },  /* full width */
        { 0x0c1, 0x0000000000000005, 0x0000000000000005 },
        { 0x186, 0x00000004ff5fffff, 0x00000004ff5fffff },
        { 0x309, 0x0000ffffffffffff, 0x0000ffffffffffff },
        { 0x38d, 0x000011110000bbbb, 0x000011110000bbbb },
        { 0x38f, 0x0000000f000000ff, 0x0000000f000000ff },
        { 0x3f1, 0x0000000f000000ff, 0x0000000f000000ff },
        { 0x3f2, 0x0000000000000007, 0x0000000000000007 },
        { 0x3f6, 0x000000000000ffff, 0x000000000000ffff },
        { 0x600, 0xffff800000001000, 0xffff800000001000 },
        { 0x1a6, 0x0000003f00000000, 0x0000003f00000000 },
    };
    Command commands[MAX_COMMANDS] = { 0 };

    write_all(commands, attempts, ARRAY_SIZE(attempts));
    for (int i = 0; i < ARRAY_SIZE(attempts); i++) {
        g_test_message("0x%x", attempts[i].msr);
        g_assert_cmphex(commands[i].what, ==, WRITE);
        g_assert_cmphex(commands[i].value, ==, attempts[i].read);
    }
}

/* Reserved bits and read-only registers */
static void test_refused(void)
{
    static const Attempt attempts[] = {
        { 0x4c1, 1ull << 48 },          /* wider than the counter */
        { 0x186, 1 << 21 },             /* AnyThread */
        { 0x18d, 1ull << 35 },
        { 0x30c, 1ull << 48 },
        { 0x38d, 1 << 16 },             /* a fifth fixed counter */
        { 0x38e, 0 },                   /* status: read only */
        { 0x38f, 1 << 8 },              /* a ninth general counter */
        { 0x390, 1 << 9 },
        { 0x391, 1ull << 50 },
        { 0x345, 0x64c0 },              /* capabilities: read only */
        { 0x3f1, 1 << 8 },
        { 0x3f2, 8 },                   /* branch records */
        { 0x3f6, 1 << 16 },
        { 0x600, 1ull << 47 },          /* not canonical */
    };
    Command commands[MAX_COMMANDS] = { 0 };

    write_all(commands, attempts, ARRAY_SIZE(attempts));
    for (int i = 0; i < ARRAY_SIZE(attempts); i++) {
        g_test_message("0x%x", attempts[i].msr);
        g_assert_cmphex(commands[i].what, ==, FAULTED);
    }
}

/* What reset leaves, with a unit and without */
static void test_reset(void)
{
    static const Attempt attempts[] = {
        { 0x0c1 }, { 0x186 }, { 0x309 }, { 0x38d }, { 0x38e }, { 0x3f1 },
        { 0x600 },
        { 0x345, .read = 0x64c0 },      /* PEBS format 4, baseline */
        { 0x38f, .read = 0xff },        /* the general counters are on */
    };
    Command commands[MAX_COMMANDS] = { 0 };

    for (int i = 0; i < ARRAY_SIZE(attempts); i++) {
        commands[i] = (Command) { READ, attempts[i].msr };
    }
    run(CPU ",pmu=on", commands);
    for (int i = 0; i < ARRAY_SIZE(attempts); i++) {
        g_test_message("0x%x", attempts[i].msr);
        g_assert_cmphex(commands[i].what, ==, READ);
        g_assert_cmphex(commands[i].value, ==, attempts[i].read);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!qtest_has_accel("tcg")) {
        g_test_skip("needs TCG");
        return 0;
    }
    qtest_add_func("tcg-pmu/written", test_written);
    qtest_add_func("tcg-pmu/refused", test_refused);
    qtest_add_func("tcg-pmu/reset", test_reset);
    return g_test_run();
}
